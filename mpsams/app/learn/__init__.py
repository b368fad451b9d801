"""The Learn tab in parts: its steps and pages, the context they show, the quiz, and what runs in
the browser (learn.js).
"""
