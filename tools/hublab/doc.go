// Package hublab is a hub with hundreds of halls, as its tests measure it in
// namespaces of the host. The tunnels are real ones, of one charon for the hub
// and one for all halls, each kept by drivers/vici; their ESP is charon's own,
// in user space, since any kernel will do. The heartbeats are those of the real
// program, which hears halls that a generator plays. What needs XFRM interfaces
// is measured by tools/linelab, with fewer halls.
package hublab

// Figure begins the line of a measured value, for tools/bench: Figure, name,
// value, each separated by a tab.
const Figure = "HUBLAB-FIGURE"

// Rounds is the variable of the environment with the number of rounds; without
// it a few halls have to do, and no value is printed.
const Rounds = "HUBLAB_ROUNDS"
