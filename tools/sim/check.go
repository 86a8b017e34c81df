package main

import "komainu/failover/detect"

type checks struct {
	faults int
}

type groupWatch struct{}

func (w *world) checkBeat(*node, *detect.Message) {}

func (w *world) check(*node) {}

func (w *world) changed() {}

func (w *world) steered() {}

func (w *world) saved(*node) {}

func (w *world) crashed(*node) {}

func (w *world) discards(s, u *server) {}

func (d *database) list(nums []int32) {
	for _, n := range nums {
		d.w.writes[n].listed = true
	}
}

func (w *world) judgeEnd() {}
