#!/usr/bin/env bash
# Trains on several nodes under Slurm, resumes by itself, and goes back into the queue when its time is up.
#   sbatch docs/train/slurm.sh --config train/configs/busi-mps_ams-cpu.toml --data.root packs/busi-256 --out runs/busi
# Everything after the script's name is train.pretrain's; for another command: COMMAND=train.finetune sbatch ...
# Submit from the project's folder, in the environment that has torchrun. Adapt the four lines of resources.
#SBATCH --job-name=mps-ams
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180
set -uo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=0 torchrun \
  --nnodes="$SLURM_NNODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" --max-restarts=3 --shutdown-timeout=120 \
  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" --rdzv-endpoint="$head:29500" \
  -m "${COMMAND:-train.pretrain}" --resume "$@" &
step=$!

# Three minutes before the limit, or on preemption, the training saves its state and exits; then the job queues again.
stopping=
trap 'stopping=yes; kill -TERM "$step" 2>/dev/null' TERM
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do  # the signal ended the wait, not yet the training
  wait "$step"
  code=$?
done
if [ -n "$stopping" ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
