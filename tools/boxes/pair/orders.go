package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"komainu/failover/machine"
)

// Do types a command at the machine's console, as the administrator, and returns
// what it printed.
func (m *Machine) Do(ctx context.Context, command string) (string, error) {
	m.typing.Lock()
	defer m.typing.Unlock()
	if err := m.login(ctx); err != nil {
		return "", err
	}
	return m.Console.Do(ctx, command)
}

// login comes after the login prompt has been seen. Who logs in first makes the
// administrator's password.
func (m *Machine) login(ctx context.Context) error {
	if m.in {
		return nil
	}
	answers := []string{"admin", password, password}
	if m.known {
		answers = answers[:2]
	}
	for i, line := range answers {
		if i > 0 {
			if _, err := m.Console.Expect(ctx, regexp.MustCompile(`(password|again): \z`)); err != nil {
				return err
			}
		}
		if err := m.Console.Send(line); err != nil {
			return err
		}
	}
	if _, err := m.Console.Expect(ctx, m.Console.Prompt); err != nil {
		return err
	}
	m.in, m.known = true, true
	_, err := m.Console.Do(ctx, "console language en")
	return err
}

var shellPrompt = regexp.MustCompile(`(?m)^# \z`)

// Shell runs a command in the emergency shell and returns what it printed.
func (m *Machine) Shell(ctx context.Context, command string) (out string, err error) {
	m.typing.Lock()
	defer m.typing.Unlock()
	if err := m.login(ctx); err != nil {
		return "", err
	}
	inside := m.Console.Prompt
	m.Console.Prompt = shellPrompt
	_, err = m.Console.Do(ctx, "shell")
	if err == nil {
		out, err = m.Console.Do(ctx, command)
	}
	m.Console.Prompt = inside
	if err != nil {
		return out, err
	}
	// No echo is waited for: the shell's end hangs the line up, which drops what
	// hasn't been sent (kernel: uart_hangup).
	if err := m.Console.Send("exit"); err != nil {
		return out, err
	}
	_, err = m.Console.Expect(ctx, m.Console.Prompt)
	return out, err
}

// Order is town.Boxes: the administrator types it on the serial line of the
// town-hall box. A move back to the data centre may take long, and wait for
// further orders: its command is watched for a moment, then interrupted, which
// leaves the order in force.
func (p *Pair) Order(ctx context.Context, o machine.Order) (machine.Reply, error) {
	p.mu.Lock()
	m := p.hall
	p.mu.Unlock()
	command, err := words(o)
	if err != nil {
		return machine.Reply{}, err
	}
	m.typing.Lock()
	defer m.typing.Unlock()
	if err := m.login(ctx); err != nil {
		return machine.Reply{}, err
	}
	watch := ctx
	if o.Kind == machine.SwitchDC {
		var cancel context.CancelFunc
		watch, cancel = context.WithTimeout(ctx, shown)
		defer cancel()
	}
	said, err := m.Console.Do(watch, command)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		if err := m.Console.Type("\x03"); err != nil {
			return machine.Reply{}, err
		}
		_, err := m.Console.Expect(ctx, m.Console.Prompt)
		return machine.Reply{ID: o.ID, OK: true}, err
	}
	if err != nil {
		return machine.Reply{}, err
	}
	var r machine.Reply
	line := said[max(0, strings.Index(said, "{")):]
	if err := json.NewDecoder(strings.NewReader(line)).Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %q", command, said)
	}
	return r, nil
}

// words are what an operator types for an order.
func words(o machine.Order) (string, error) {
	var s string
	switch o.Kind {
	case machine.Write, machine.Hold, machine.Release:
		s = "service " + string(o.Kind) + " " + o.Group
	case machine.SwitchDC:
		s = "service switch " + o.Group + " dc"
	case machine.SwitchLocal:
		s = "service switch " + o.Group + " local"
	case machine.AcceptOrphans:
		s = "return accept-orphans " + strconv.Itoa(int(o.Count)) + " " + o.Group
	default:
		return "", fmt.Errorf("no command for the order %v", o.Kind)
	}
	if o.Reason != "" {
		s += ` --reason "` + o.Reason + `"`
	}
	return s + " --json", nil
}

// MemoryUsed is what the kernel can't give to somebody else, MiB: all of the
// memory but what is available (proc(5), MemAvailable).
func (m *Machine) MemoryUsed(ctx context.Context) (int, error) {
	said, err := m.Shell(ctx, "cat /proc/meminfo")
	if err != nil {
		return 0, err
	}
	kb := map[string]int{}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(line, ":")
		kb[name], _ = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
	}
	if kb["MemTotal"] == 0 || kb["MemAvailable"] == 0 {
		return 0, fmt.Errorf("memory of %s: %q", m.Site, said)
	}
	return (kb["MemTotal"] - kb["MemAvailable"]) >> 10, nil
}
