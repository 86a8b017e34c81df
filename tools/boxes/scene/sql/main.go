// Command sql gives statements to a PostgreSQL server on its local socket, as an
// installer of a database would with psql, which the image doesn't bring:
// sql SOCKETDIR STATEMENT... It waits for the server, at most a minute.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Println("sql:", err)
		os.Exit(1) //nolint:gocritic // the deadline has nothing to undo
	}
	fmt.Println("sql: done")
}

func run(ctx context.Context, dir string, statements []string) error {
	var conn *pgx.Conn
	for {
		var err error
		if conn, err = pgx.Connect(ctx, "host="+dir+" user=postgres dbname=postgres"); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond): // a server that starts says nothing before it listens
		}
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
