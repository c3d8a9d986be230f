"""What is done to pixels before a network sees them: whitening, augmentation, views."""
