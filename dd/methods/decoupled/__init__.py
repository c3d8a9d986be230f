"""Decoupled methods: images are recovered from teachers, or taken, and labelled by them."""
