"""Regions, genes, genomes and window geometry; knows no network."""
