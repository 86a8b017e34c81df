// Package console is the command line: it finds the command that a few words
// mean, asks the agent over its socket and shows the answer so that it fits a
// serial terminal of 80 columns. It decides nothing and keeps nothing. Start
// reading at Command and Console.
package console

import (
	"context"
	"io"

	"komainu/appliance/control"
)

// Command is one thing that a person can say.
type Command struct {
	Path    []string     // words, in full; a person may shorten each to a unique prefix
	Role    control.Role // lowest role that may say it; the agent checks, help shows
	Help    string       // code of appliance/say: one line
	Args    []Arg        // what follows the words
	Options []string     // "reason" allows --reason TEXT
	Run     func(ctx context.Context, in *Invocation) error
}

// Arg is one argument by its place. Optional ones come last.
type Arg struct {
	Name     string   // for help: "GROUP"
	Values   []string // the only ones allowed, may be shortened; nil: anything
	Optional bool
}

// Invocation is one use of a command.
type Invocation struct {
	Args   []string          // by place; "" for an optional one left out
	Option map[string]string // of Command.Options
	JSON   bool              // --json: machine-readable, not translated
	Lang   string            // "en" or "ja"
	User   string            // who orders, as it will stand in the records
	Out    io.Writer
	Agent  control.Client
	Time   control.Client // the time daemon
	Box    control.Client // PID 1
}

// Console is the set of commands and where their output goes.
type Console struct {
	Commands []Command // joined by main from the slices of the domains
	Run      string    // folder of agent.sock, timed.sock and pid1.sock; --run DIR overrides
	Lang     string    // --lang overrides
	User     string    // who orders, as it will stand in the records
	Out, Err io.Writer
}
