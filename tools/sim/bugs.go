package main

import (
	"komainu/appliance/agent"
)

// bugs are known mistakes that a test plants between the agent and the world,
// to prove that the checkers find them.
type bugs struct{}

func (b *bugs) started(*node, *agent.Started) {}

func (b *bugs) booted(*node) {}

func (b *bugs) executing(*flight) {}

func (b *bugs) done(*flight, *agent.Done) {}

func (b *bugs) gate(*node, agent.SetGate) bool { return false }

func (b *bugs) looked(*node, *agent.Looked) bool { return false }

func (b *bugs) marking(*server) {}
