package main

import (
	"context"
	"time"

	"komainu/tools/linelab"
)

// lineBound: one boot of the stock kernel in emulation, with a lab for each row
// or two, one after the other, and 165 MB through a tunnel.
const lineBound = 30 * time.Minute

// closedLine: real tunnels between real boxes, listened to, cut, narrow and
// full, on the stock kernel. Its tests say what the rows say; the town stands
// by.
func closedLine(ctx context.Context, r *run) error {
	return guest(ctx, r, "./tools/linelab", "^TestHostLine", linelab.Result, lineBound)
}
