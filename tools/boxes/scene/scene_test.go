package scene_test

import (
	"context"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

// TestBootedDatabase: an installed box serves its database by itself after a start.
func TestBootedDatabase(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	from, err := scene.Installed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scene.New(ctx, t.Name(), from, boxes.Options{Watchdog: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	took, err := s.PowerOn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Connect(ctx)
	if err != nil {
		t.Fatal(err, s.Console.Tail(20))
	}
	if _, err := conn.Exec(ctx, "insert into entry values (1)"); err != nil {
		t.Error(err)
	}
	if err := s.Login(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := s.Console.Do(ctx, "show box")
	t.Log(took, out, err)
	out, err = s.Console.Do(ctx, "show status")
	t.Log(out, err)
}
