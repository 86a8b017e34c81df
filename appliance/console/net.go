package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/capture"
	"komainu/drivers/stick"
)

// Net are the commands that show the network and find its faults. They ask the
// agent, but send and capture packets themselves, so that they work without it.
// state is the box's folder, for techinfo; empty: its files are left out.
func Net(state string) []Command {
	name := []Arg{{Name: "NAME", Optional: true, Complete: linkWords}}
	to := Arg{Name: "HOST"}
	return []Command{
		{
			Path: []string{"capture"}, Role: control.Field, Help: "usage-capture",
			Args:    []Arg{{Name: "IF", Complete: linkWords}, {Name: "[FILTER] usb:|ssh", Rest: true}},
			Options: []string{"packets", "size", "seconds", "ring", "own"}, Run: captureTo,
		},
		{Path: []string{"mtu"}, Role: control.Field, Help: "usage-mtu", Args: []Arg{to}, Options: []string{"source", "interface"}, Run: searchMTU},
		{
			Path: []string{"ping"}, Role: control.Field, Help: "usage-ping",
			Args: []Arg{to, {Name: "COUNT", Optional: true}}, Options: []string{"size", "source", "interface"}, Run: ping,
		},
		{Path: []string{"show", "bond"}, Role: control.Viewer, Help: "usage-show-bond", Args: name, Run: showBond},
		{Path: []string{"show", "firewall"}, Role: control.Viewer, Help: "usage-show-firewall", Run: showFirewall},
		{Path: []string{"show", "interface"}, Role: control.Viewer, Help: "usage-show-interface", Args: name, Run: showInterface},
		{Path: []string{"show", "log", "access"}, Role: control.Viewer, Help: "usage-show-access", Args: []Arg{{Name: "N", Optional: true}}, Run: showAccess},
		{Path: []string{"show", "network"}, Role: control.Viewer, Help: "usage-show-network", Run: showNetwork},
		{
			Path: []string{"techinfo"}, Role: control.Field, Help: "usage-techinfo", Args: []Arg{{Name: "usb:|ssh|NAME"}},
			Run: func(ctx context.Context, in *Invocation) error { return in.techinfo(ctx, state) },
		},
		{Path: []string{"traceroute"}, Role: control.Field, Help: "usage-traceroute", Args: []Arg{to}, Options: []string{"source", "interface"}, Run: traceroute},
	}
}

// linkWords are the names of interfaces, for Tab.
func linkWords(ctx context.Context, in *Invocation) []string {
	var n control.Network
	if err := in.Agent.Get(ctx, control.NetworkPath, &n); err != nil {
		return nil
	}
	return linkNames(n.Links)
}

func linkNames(all []control.NetLink) []string {
	var names []string
	for _, l := range all {
		if l.Interface != "" {
			names = append(names, l.Interface)
		} else {
			names = append(names, l.Name)
		}
	}
	return names
}

// named tells whether a link is meant by a word.
func named(l control.NetLink, word string) bool {
	return word != "" && (l.Interface == word || l.Name == word || l.Place == word)
}

// link is the kernel's name of an interface; names of the kernel are known
// without the agent.
func (in *Invocation) link(ctx context.Context, word string) (string, error) {
	var n control.Network
	err := in.Agent.Get(ctx, control.NetworkPath, &n)
	if err == nil {
		if k := slices.IndexFunc(n.Links, func(l control.NetLink) bool { return named(l, word) }); k >= 0 {
			return n.Links[k].Name, nil
		}
	}
	if _, err := net.InterfaceByName(word); err == nil {
		return word, nil
	}
	return "", &control.Error{Code: "link-none", Args: []string{word, strings.Join(linkNames(n.Links), ", ")}}
}

// host is the address of what a person names: an address, a service of this box,
// or an interface, whose first gateway is meant.
func (in *Invocation) host(ctx context.Context, word string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(word); err == nil {
		return a.Unmap(), nil
	}
	var known []string
	var st control.Status
	if in.Agent.Get(ctx, control.StatusPath, &st) == nil {
		for _, s := range st.Services {
			if at, err := netip.ParseAddrPort(s.Endpoint); err == nil {
				if s.Name == word {
					return at.Addr(), nil
				}
				known = append(known, s.Name)
			}
		}
	}
	var n control.Network
	if in.Agent.Get(ctx, control.NetworkPath, &n) == nil {
		for _, g := range n.Gateways {
			if a, err := netip.ParseAddr(g.Address); err == nil {
				if g.Interface == word {
					return a, nil
				}
				if g.Interface != "" && !slices.Contains(known, g.Interface) {
					known = append(known, g.Interface)
				}
			}
		}
	}
	return netip.Addr{}, &control.Error{Code: "net-host", Args: []string{word, strings.Join(known, ", ")}}
}

// countIn reads an option that is one from least to most; left out, it is usual.
func countIn(text string, usual, least, most int) (int, error) {
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, usage("usage-range", text, strconv.Itoa(least), strconv.Itoa(most))
	}
	return n, nil
}

// explain is an error of the network in words that say what to do.
func explain(what string, err error) error {
	code, args := "net-failed", []string{what, ""}
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, new(*control.Error)), errors.Is(err, errReported):
		return err
	case errors.Is(err, stick.ErrNone):
		code, args = "usb-none", nil
	case errors.Is(err, stick.ErrRoom):
		code, args = "net-no-room", []string{err.Error()}
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		code, args = "net-no-route", args[:1]
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		code, args = "net-no-permission", args[:1]
	case errors.Is(err, unix.ENOSPC):
		code, args = "disk-full", []string{err.Error()}
	case errors.Is(err, capture.ErrBounds):
		code, args = "capture-failed", []string{err.Error()}
	default:
		args[1] = err.Error()
	}
	return &control.Error{Code: code, Args: args}
}

// lay writes a value as JSON for people who read it.
func (in *Invocation) lay(v any) error {
	e := json.NewEncoder(in.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// line writes one sentence to Out.
func (p *page) line(in *Invocation, code string, args ...string) error {
	_, err := fmt.Fprintln(in.Out, p.say(code, args...))
	return err
}
