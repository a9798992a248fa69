"""Choose, write, show: mixtures, the datatrove pipeline, export, reports, study, command."""
