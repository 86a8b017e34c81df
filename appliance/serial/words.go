package serial

import (
	"context"
	"errors"
	"io"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/control"
)

// words are the commands that only a person at this terminal can say.
func (c *seat) words(s *console.Session) []console.Command {
	return []console.Command{
		{
			Path: []string{"administrator"}, Role: control.Admin, Help: "usage-administrator",
			Run: func(ctx context.Context, _ *console.Invocation) error {
				return s.Screen.Direct(func() error {
					if _, err := c.keeper.People(); err != nil {
						return err
					}
					_, err := c.newPassword(ctx, s.Screen, "ok")
					if errors.Is(err, io.EOF) || errors.Is(err, console.ErrIdle) { // thought better of it
						return nil
					}
					return err
				})
			},
		},
		{
			Path: []string{"shell"}, Role: control.Admin, Help: "usage-shell",
			Run: func(ctx context.Context, _ *console.Invocation) error {
				c.audit(s.Screen, accounts.Entry{User: s.User, Operation: "shell", Result: "started"}) // what is done there isn't recorded
				return s.Screen.Direct(func() error {
					err := c.shell(ctx, c.Shell)
					if err != nil {
						err = errors.Join(c.tell(s.Screen, "serial-no-shell"), err)
					}
					return err
				})
			},
		},
	}
}
