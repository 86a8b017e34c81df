package console

import (
	"context"
	"strconv"

	"komainu/appliance/control"
)

// Keys are the commands about what tunnels prove themselves with.
func Keys() []Command {
	return []Command{{Path: []string{"vpn", "reload"}, Role: control.Admin, Help: "usage-vpn-reload", Run: reloadKeys}}
}

func reloadKeys(ctx context.Context, in *Invocation) error {
	var taken control.KeysTaken
	if err := in.Agent.Post(ctx, control.KeysPath, struct{}{}, &taken); err != nil {
		return err
	}
	return in.tell("vpn-reloaded", strconv.Itoa(taken.Certificates))
}
