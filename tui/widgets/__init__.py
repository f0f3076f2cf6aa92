"""One file a widget, its style beside its code."""
