// The demo builds a town hall with its data centre out of real parts, cuts the
// lines between them, and shows on the terminal how the counter keeps working
// and how everything returns. It leaves out/demo.json and out/demo.svg. It
// exits with 1 if a row was lost or a connection failed in the hand-over. Start
// reading at run; the story is told in play.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"komainu/drivers/files"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

type options struct {
	lang  string
	fast  bool
	small bool
	keep  bool
	out   string
	seed  uint64
}

func main() {
	var o options
	flag.StringVar(&o.lang, "lang", language(os.Getenv), "en or ja")
	flag.BoolVar(&o.fast, "fast", false, "heartbeats every 40 ms instead of 100 ms")
	flag.BoolVar(&o.small, "small", false, "a small ledger instead of 55,000 residents")
	flag.BoolVar(&o.keep, "keep", false, "keep the town's files")
	flag.StringVar(&o.out, "out", "out", "folder for demo.json and demo.svg")
	flag.Uint64Var(&o.seed, "seed", 1, "of the ledger and the clerks' choices")
	flag.Parse()
	if flag.NArg() > 0 || o.lang != "en" && o.lang != "ja" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends us at once; the next lab clears up
	err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// language is that of the environment.
func language(env func(string) string) string {
	for _, name := range []string{"KOMAINU_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := env(name); v != "" {
			if strings.HasPrefix(v, "ja") {
				return "ja"
			}
			return "en"
		}
	}
	return "en"
}

// errNotWell ends a demo that ran but does not prove what it should.
var errNotWell = errors.New("a row was lost, the account doesn't balance, or a connection failed in the hand-over")

func run(ctx context.Context, o options) (err error) {
	scr := newScreen(os.Stdout, o.lang)
	defer scr.close()
	p := &play{screen: scr, settings: town.Settings{HoldDown: 3 * time.Second}}
	size := ledger.Full()
	if o.small {
		size = ledger.Small()
	}
	if o.fast {
		p.settings.Profile = "fast"
	}
	scr.head("title")
	scr.say("building")
	began := time.Now()
	p.World, err = town.Build(ctx, town.Options{Name: "demo", Settings: p.settings, Size: size, Seed: o.seed, Keep: o.keep, Log: scr.log()})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer func() {
		scr.say("clearing")
		err = errors.Join(err, p.World.Close())
	}()
	if err := p.ready(ctx); err != nil {
		return interrupted(ctx, err)
	}
	scr.moving("")
	scr.say("ready", time.Since(began).Seconds())
	if err := p.all(ctx); err != nil {
		return interrupted(ctx, err)
	}
	f, err := p.figures()
	if err != nil {
		return err
	}
	scr.table(f, bounds(o.fast))
	if err := save(o, p, f); err != nil {
		return err
	}
	scr.say("saved", filepath.Join(o.out, "demo.json"), filepath.Join(o.out, "demo.svg"))
	if f.RowsLost > 0 || f.ReturnFailedConnects > 0 || !p.balanced() {
		return errNotWell
	}
	return nil
}

// interrupted says so plainly when the user ended the demo.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

func save(o options, p *play, f figures) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := files.Replace(filepath.Join(o.out, "demo.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return files.Replace(filepath.Join(o.out, "demo.svg"), []byte(p.picture(o.lang)), 0o644)
}
