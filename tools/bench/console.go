package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"komainu/appliance/console"
	"komainu/tools/town"
)

// character is the time of one character at 9600 baud: start, 8 bits, stop.
const character = time.Second * 10 / 9600

// keys is how many are typed for one value.
const keys = 100

// console measures what a person at a serial line waits for.
func (b *bench) console(ctx context.Context) error {
	echo := b.figure(Figure{Name: "console_echo", What: "key to echo over an emulated line of 9600 baud, beyond what the line alone takes", Unit: "ms",
		Goal: "median <= 1.04", holds: medianAtMost(1.04)})
	alone := echo.peer("the line alone, echoing by itself")
	for range b.runs {
		plain, err := echoTime(ctx, func(t terminal) error { _, err := io.Copy(t, t); return err })
		if err != nil {
			return err
		}
		ours, err := echoTime(ctx, func(t terminal) error {
			_, err := console.NewScreen(t, time.Hour).Line(ctx, "hinata-cho> ", nil)
			return err
		})
		if err != nil {
			return err
		}
		alone.add(ms(plain))
		echo.Ours.add(ms(ours - plain))
	}
	return b.statusBytes(ctx)
}

// statusBytes counts what `show status` sends, on a town.
func (b *bench) statusBytes(ctx context.Context) (err error) {
	f := b.figure(Figure{Name: "console_status", What: "`show status` of a town hall, English and Japanese", Unit: "bytes", Goal: "max <= 2048", holds: maxAtMost(2048)})
	r, err := b.town(ctx, "console", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for _, lang := range []string{"en", "ja"} {
		out, err := exec.CommandContext(ctx, r.Program, "show", "status", "--lang", lang, "--run", r.Hall.RunDir()).Output()
		if err != nil {
			return fmt.Errorf("show status: %w", err)
		}
		f.Ours.add(float64(len(out)))
	}
	return nil
}

// terminal is the box's end of a line.
type terminal struct {
	in  *os.File // what was typed
	out io.Writer
}

func (t terminal) Read(b []byte) (int, error)        { return t.in.Read(b) }
func (t terminal) Write(b []byte) (int, error)       { return t.out.Write(b) }
func (t terminal) SetReadDeadline(d time.Time) error { return t.in.SetReadDeadline(d) }

// echoTime types keys one after the other, each when the one before has come
// back, and gives the median time from the key to its echo. Each way of the line
// carries a character per character time.
func echoTime(ctx context.Context, serve func(terminal) error) (time.Duration, error) {
	typed, key, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	shown, screen, err := os.Pipe()
	if err != nil {
		return 0, errors.Join(err, typed.Close(), key.Close())
	}
	served := make(chan error, 1)
	go func() { served <- serve(terminal{typed, &slow{to: screen}}) }()
	person := &slow{to: key}
	took, err := typeKeys(ctx, person, shown)
	err = errors.Join(err, key.Close()) // the end of the line ends whoever serves it
	if e := <-served; e != nil && !errors.Is(e, io.EOF) {
		err = errors.Join(err, e)
	}
	return took, errors.Join(err, typed.Close(), screen.Close(), shown.Close())
}

func typeKeys(ctx context.Context, key io.Writer, shown *os.File) (time.Duration, error) {
	if err := shown.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	var all []time.Duration
	one := make([]byte, 1)
	for len(all) < keys && ctx.Err() == nil {
		begin := time.Now()
		if _, err := key.Write([]byte("k")); err != nil {
			return 0, err
		}
		for one[0] = 0; one[0] != 'k'; { // a prompt may come before
			if _, err := shown.Read(one); err != nil {
				return 0, fmt.Errorf("wait for the echo: %w", err)
			}
		}
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return all[len(all)/2], ctx.Err()
}

// slow passes one byte on per character time.
type slow struct{ to io.Writer }

func (s *slow) Write(b []byte) (int, error) {
	for i := range b {
		time.Sleep(character)
		if _, err := s.to.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}
