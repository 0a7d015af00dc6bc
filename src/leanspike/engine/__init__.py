"""A spiking network compiled into a program that runs where its spikes are."""
