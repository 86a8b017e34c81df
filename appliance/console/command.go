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
	Rest     bool // the last one: it takes all words that are left, each one of Args
	// Complete gives words that may stand here, for Tab and "?"; nil: none are
	// known. Of in, Args, Lang, Role and the clients are set.
	Complete func(ctx context.Context, in *Invocation) []string
}

// Invocation is one use of a command.
type Invocation struct {
	Args   []string          // by place; "" for an optional one left out
	Option map[string]string // of Command.Options
	JSON   bool              // --json: machine-readable, not translated
	Lang   string            // "en" or "ja"
	User   string            // who orders, as it will stand in the records
	Role   control.Role      // of User
	Out    io.Writer
	Err    io.Writer // what isn't output: the same as Out where a person watches
	In     io.Reader // what is streamed to the command; nil: nothing can be
	// Ask asks for a word that isn't shown; nil: nobody can be asked.
	Ask func(ctx context.Context, prompt string) (string, error)
	// Read asks for a line that is shown; ErrInterrupt after ^C. nil: nobody can
	// be asked.
	Read   func(ctx context.Context, prompt string) (string, error)
	Colour bool                                               // the person wants green and red
	State  string                                             // folder with secrets/ and pki/; empty: not known
	Stick  func(run string, do func(root string) error) error // stands for a USB stick; nil: the machine's
	Agent  control.Client
	Time   control.Client // the time daemon
	Box    control.Client // PID 1
}

// Console is the set of commands and where their output goes.
type Console struct {
	Commands []Command    // joined by main from the slices of the domains
	Run      string       // folder of agent.sock, timed.sock and pid1.sock; --run DIR overrides
	Lang     string       // --lang overrides
	User     string       // who orders, as it will stand in the records
	Role     control.Role // of User, for commands that do more for a higher one
	Out, Err io.Writer
	In       io.Reader                                                // of Invocation
	Ask      func(ctx context.Context, prompt string) (string, error) // of Invocation
	Read     func(ctx context.Context, prompt string) (string, error) // of Invocation
	Colour   bool                                                     // of Invocation
	State    string                                                   // of Invocation
	Stick    func(run string, do func(root string) error) error       // of Invocation
}
