"""The Learn tab in parts: its walk and pages, the scene they show, the quiz, and what runs in
the browser (learn.js).
"""
