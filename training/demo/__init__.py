"""The demo's base model: the corpus it learns from, the manners it speaks in, the script that builds it."""
