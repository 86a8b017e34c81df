package main

func (w *world) arrange() {}
