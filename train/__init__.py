"""Commands that train and measure: pretrain, finetune, evaluate."""
