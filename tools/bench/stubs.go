package main

import "context"

func (b *bench) fast(ctx context.Context) error          { return nil }
func (b *bench) blocked(ctx context.Context) error       { return nil }
func (b *bench) boot(ctx context.Context) error          { return nil }
func (b *bench) oneLine(ctx context.Context) error       { return nil }
func (b *bench) falseSwitches(ctx context.Context) error { return nil }
func (b *bench) idle(ctx context.Context) error          { return nil }
func (b *bench) wal(ctx context.Context) error           { return nil }
func (b *bench) sim(ctx context.Context) error           { return nil }
