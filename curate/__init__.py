"""Choose, write, show: mixtures, the datatrove pipeline, export, reports, the study and its command."""
