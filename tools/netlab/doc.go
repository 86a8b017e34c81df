// Package netlab holds tests of one box between networks of real parts: the
// program with its supervisor, switches with tagged VLANs and bonds, hosts that
// may and hosts that may not. Each acceptance test of the catalogue that is
// proved here prints one line beginning with Result, which tools/accept turns
// into a row. What needs bonds, VLANs or VRFs counts on the stock kernel only.
package netlab

// Result begins the line of a test that a row of the acceptance report is made
// of: Result, ID, "ok" or "bad", what was done, what came out, each separated
// by a tab.
const Result = "NETLAB-RESULT"

// Figure begins the line of a measured value, for tools/bench: Figure, name,
// value, each separated by a tab.
const Figure = "NETLAB-FIGURE"
