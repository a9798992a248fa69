"""The runs and studies that come with modehop, as YAML files."""
