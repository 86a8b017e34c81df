// Package linelab is the closed line without databases: town halls and a data
// centre's edge in namespaces, the real program with charon and the kernel's
// ESP on each, lines that can be hurt and are listened to, hosts behind both
// ends. It needs a stock kernel, so its tests run in the guest of tools/vmtest.
// Start reading at Build.
package linelab

// Result begins the line of a test that a row of the acceptance report is made
// of: Result, ID, "ok" or "bad", what was done, what came out, each separated
// by a tab.
const Result = "LINELAB-RESULT"

// Figure begins the line of a measured value, for tools/bench: Figure, name,
// value, each separated by a tab.
const Figure = "LINELAB-FIGURE"

// Rounds is the variable of the environment with the number of rounds of every
// figure; without it nothing is measured.
const Rounds = "LINELAB_ROUNDS"
