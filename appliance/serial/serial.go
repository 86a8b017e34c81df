// Package serial is the process behind one terminal of the box: a serial line
// before all. It shows what is wrong, lets people log in and gives each the
// console with the rights of the own role; it goes on without agent, PID 1,
// configuration or disk. What the commands do is elsewhere. Start reading at
// Main.
package serial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"komainu/appliance/accounts"
	"komainu/appliance/config"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/uart"
	"komainu/ntp/instant"
)

// Options are what one terminal's process is told. Only TTY is required.
type Options struct {
	TTY      string            // "ttyS0", or a path
	State    string            // folder of users.json, serial/TTY.json, log/audit.ndjson; may be lost or read-only
	Run      string            // folder of agent.sock, timed.sock, pid1.sock
	Config   string            // file that names the site; may be missing or broken
	Commands []console.Command // what the console knows; exit, language, administrator and shell are added
	Shell    []string          // of `shell`; nil: /bin/sh -i
	Idle     time.Duration     // a session ends after; 0: 15 minutes
}

const (
	speedFirst = 115200
	idleMost   = 15 * time.Minute
	askMost    = 2 * time.Second        // for PID 1, before the banner
	newsMost   = 500 * time.Millisecond // for alarms, before the prompt
	newsPause  = 30 * time.Second       // without news when nobody answered
)

// Terminals names the terminals that each want a process of this kind, as TTY.
// There may be none yet: an adapter may be plugged in later, so ask again.
func Terminals() ([]string, error) { return uart.List() }

// seat is the place at one terminal, over many sessions.
type seat struct {
	Options
	path    string
	most    time.Duration // writeMost
	now     func() instant.Instant
	wait    func(ctx context.Context, d time.Duration) bool // false: ctx ended
	line    *line
	disk    *accounts.Disk
	keeper  *accounts.Keeper
	guard   *accounts.Guard
	saved   settings
	session *console.Session  // nil: nobody is logged in
	noNews  instant.Instant   // don't ask for alarms before
	told    map[string]string // alarms: ID and subject → severity
}

// settings is STATE/serial/TTY.json.
type settings struct {
	Speed int    `json:"speed"`
	Lang  string `json:"lang,omitempty"` // empty: nobody chose one
}

const settingsVersion = 1

// Main serves one terminal until ctx ends (nil) or the terminal is gone (error).
func Main(ctx context.Context, o Options) error { return newSeat(o).serve(ctx) }

func (c *seat) serve(ctx context.Context) error {
	if s, err := accounts.OnDisk(c.disk, c.readSettings); err == nil { // else as from the factory: the search finds the speed
		c.saved = settings{s.Speed, cmp.Or(s.Lang, c.saved.Lang)}
	}
	port, err := uart.Open(c.path, c.saved.Speed)
	if err != nil {
		return err
	}
	c.line = &line{port: port, search: uart.Search{Speed: c.saved.Speed}, now: c.now, most: c.most}
	for err == nil && ctx.Err() == nil {
		err = c.visit(ctx)
		switch {
		case errors.Is(err, console.ErrIdle), errors.Is(err, io.EOF): // nobody there, ^D
			err = nil
		case errors.Is(err, errStopped): // somebody may come back to it
			err = c.line.port.DropOutput()
			c.line.broken.Store(nil)
		}
	}
	if ctx.Err() != nil {
		err = c.line.port.DropOutput() // or the close waits for a terminal that stopped
	}
	return errors.Join(err, c.line.port.Close())
}

func newSeat(o Options) *seat {
	if o.Shell == nil {
		o.Shell = []string{"/bin/sh", "-i"}
	}
	if o.Idle == 0 {
		o.Idle = idleMost
	}
	path := o.TTY
	if !strings.HasPrefix(path, "/") {
		path = filepath.Join("/dev", path)
	}
	o.TTY = strings.TrimPrefix(path, "/dev/")
	c := &seat{Options: o, path: path, most: writeMost, now: clock.Now, wait: wait, disk: accounts.NewDisk(), guard: &accounts.Guard{}, saved: settings{Speed: speedFirst}}
	c.keeper = &accounts.Keeper{Book: accounts.Book{State: o.State, Users: accounts.Configured(o.Config)}, Disk: c.disk}
	if o.TTY == "tty1" {
		c.saved.Lang = "en" // the kernel's own screen has no Japanese letters
	}
	return c
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *seat) settingsFile() string {
	return filepath.Join(c.State, "serial", strings.ReplaceAll(c.TTY, "/", "-")+".json")
}

func (c *seat) readSettings() (settings, error) {
	var s settings
	if err := files.ReadJSON(c.settingsFile(), settingsVersion, &s); err != nil {
		return s, err
	}
	if s.Speed != 9600 && s.Speed != 115200 {
		return s, fmt.Errorf("%s: no speed %d", c.settingsFile(), s.Speed)
	}
	return s, nil
}

// visit is one person: banner, login, session. Errors are the line's.
func (c *seat) visit(ctx context.Context) error {
	screen := console.NewScreen(c.line, c.Idle)
	site, charset := c.site(ctx)
	screen.Charset(charset)
	box := c.box(ctx)
	for _, lang := range c.langs() {
		if _, err := fmt.Fprint(screen, "\n"+console.Banner(lang, site, box)); err != nil {
			return err
		}
	}
	var who *accounts.Account
	for who == nil {
		var again bool
		var err error
		if who, again, err = c.login(ctx, screen, box != nil && box.Rescue); err != nil || again {
			return err
		}
	}
	s := &console.Session{
		Console: console.Console{Run: c.Run, Lang: c.lang(), User: who.Name, State: c.State},
		Screen:  screen, Role: who.Role, Prompt: site,
		Speed: func(baud int) error {
			c.line.search = uart.Search{Speed: baud}
			return c.line.port.Raw(baud)
		},
		Audit: func(path, line string, result console.Result) {
			c.audit(screen, accounts.Entry{User: who.Name, Operation: path, Words: line, Result: string(result)})
		},
	}
	leave, err := accounts.Enter(c.Run, accounts.Present{User: who.Name, Role: who.Role.String(), Terminal: c.TTY, Since: time.Now()})
	if err == nil { // else `show users` doesn't know; nothing stops for it
		defer func() { _ = leave() }() // in a folder that a boot empties
	}
	s.Commands = append(append(s.Commands, c.Commands...), c.words(s)...)
	// Where nothing is kept, whoever comes has a disk to look after, not questions to answer.
	if who.Role == control.Admin && box != nil && !box.Rescue && box.Data != "none" && console.Unconfigured(ctx, control.Client{Socket: filepath.Join(c.Run, "pid1.sock")}) {
		s.Start = "setup"
	}
	c.told = map[string]string{}
	s.News = func(ctx context.Context) []string { return c.news(ctx, s.Lang) }
	c.keep(settings{c.line.search.Speed, c.saved.Lang}) // somebody could read and type at this speed
	c.session = s
	defer func() { c.session = nil }()
	err = s.Loop(ctx)
	if s.Lang != c.lang() {
		c.keep(settings{c.line.search.Speed, s.Lang})
	}
	end := "ok"
	if errors.Is(err, console.ErrIdle) {
		end = "idle"
	}
	c.audit(screen, accounts.Entry{User: who.Name, Operation: "logout", Result: end})
	if err == nil || end == "idle" {
		err = c.tell(screen, "serial-bye")
	}
	return err
}

// keep saves s if it changed; what can't be saved is searched again at the next
// start.
func (c *seat) keep(s settings) {
	if s == c.saved {
		return
	}
	c.saved = s
	path := c.settingsFile()
	_ = c.disk.Write(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		return files.ReplaceJSON(path, settingsVersion, s)
	})
}

// langs are the languages that the person may read.
func (c *seat) langs() []string {
	if c.session != nil {
		return []string{c.session.Lang}
	}
	if c.saved.Lang == "" {
		return say.Languages()
	}
	return []string{c.saved.Lang}
}

// lang is Japanese until somebody chooses.
func (c *seat) lang() string {
	if c.saved.Lang == "" {
		return "ja"
	}
	return c.saved.Lang
}

// say is a sentence in each language of langs.
func (c *seat) say(code string, args ...string) string {
	var all []string
	for _, lang := range c.langs() {
		all = append(all, say.Text(lang, code, args...))
	}
	return strings.Join(all, "\n")
}

// site is the name of the site and what its terminals are taken to show.
func (c *seat) site(ctx context.Context) (name, charset string) {
	f, err := accounts.OnDisk(c.disk, func() (*config.File, error) { return config.Load(c.Config) })
	if err != nil || ctx.Err() != nil { // nothing to be told here: PID 1's faults and `show status` tell it
		return "komainu", "utf-8"
	}
	return f.Site.Name, f.Console.Charset
}

// box is what PID 1 says; nil when it doesn't.
func (c *seat) box(ctx context.Context) *control.Box {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	var b control.Box
	if err := (control.Client{Socket: filepath.Join(c.Run, "pid1.sock")}).Get(ctx, control.BoxPath, &b); err != nil {
		return nil
	}
	return &b
}

// news are the alarms that came or went since the last prompt. An agent that
// doesn't answer costs the person half a second, once in a while.
func (c *seat) news(ctx context.Context, lang string) []string {
	if c.now() < c.noNews {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, newsMost)
	defer cancel()
	var st control.Status
	if err := (control.Client{Socket: filepath.Join(c.Run, "agent.sock")}).Get(ctx, control.StatusPath, &st); err != nil {
		c.noNews = c.now().Add(newsPause)
		return nil
	}
	return c.changes(lang, st.Alarms)
}

// newsLines are shown at most; the others are counted.
const newsLines = 5

func (c *seat) changes(lang string, alarms []control.Alarm) []string {
	var all []string
	now := map[string]string{}
	for _, a := range alarms {
		key := a.ID + " " + a.Subject
		now[key] = a.Severity
		if c.told[key] != a.Severity {
			all = append(all, console.AlarmLine(lang, a, true))
		}
	}
	for _, key := range sortedKeys(c.told) {
		if _, still := now[key]; !still {
			id, subject, _ := strings.Cut(key, " ")
			all = append(all, console.AlarmLine(lang, control.Alarm{ID: id, Subject: subject, Severity: c.told[key]}, false))
		}
	}
	c.told = now
	if n := len(all) - newsLines; n > 0 {
		all = append(all[:newsLines], "! "+say.Text(lang, "more", fmt.Sprint(n), "status"))
	}
	return all
}

// audit notes e; a note that can't be kept is said, and nothing stops for it.
func (c *seat) audit(out io.Writer, e accounts.Entry) {
	e.Time, e.Terminal = time.Now(), c.TTY
	if err := c.disk.Write(func() error { return accounts.Log{State: c.State}.Note(e) }); err != nil {
		fmt.Fprintln(out, c.say("serial-no-audit", err.Error()))
	}
}
