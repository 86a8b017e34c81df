package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errRolledBack: the server answered COMMIT by ROLLBACK.
var errRolledBack = errors.New("the server rolled back instead of committing")

// where is asked with every operation, since a connection may come out on
// either side and a standby may be promoted under it.
const where = "coalesce(host(inet_server_addr()), ''), pg_is_in_recovery()"

// somebody is a resident of the generated town. Dates go as text: a time.Time
// would go as a timestamp, and mean another day in another time zone.
func (s *seat) somebody() Resident {
	return s.Size.Person(s.Seed, 1+s.rng.IntN(s.Size.People))
}

func (s *seat) read(op *Op) error {
	p := s.somebody()
	query, args := "select "+where+", count(*) from resident where kana = $1 and birth = $2::date", []any{p.Kana, p.Birth.Format(time.DateOnly)}
	if op.Kind == Household {
		query = "select " + where + ", count(*) from household h join resident r on r.household = h.id join register_row g on g.resident = r.id where h.id = $1"
		args = []any{p.Household}
	}
	var found int
	if err := s.conn.QueryRow(context.Background(), query, args...).Scan(&op.Server, &op.Recovery, &found); err != nil {
		return err
	}
	if found == 0 {
		return fmt.Errorf("%v of resident %d found nobody: wrong data", op.Kind, p.ID)
	}
	return nil
}

// write does one transaction in two round trips, the second one being COMMIT:
// until that is sent, nothing is in doubt.
func (s *seat) write(op *Op) error {
	op.N = s.led.Attempt()
	var number int64
	if err := s.fill(op, &number); err != nil {
		s.led.Conclude(op.N, Refused)
		if stays(err) {
			_, e := s.conn.Exec(context.Background(), "rollback")
			if e != nil {
				return fmt.Errorf("roll back: %w", e) // the connection is gone
			}
		}
		return err
	}
	tag, err := s.conn.Exec(context.Background(), "commit")
	if err == nil && tag.String() == "ROLLBACK" {
		err = errRolledBack
	}
	s.led.Conclude(op.N, fate(err))
	if err == nil && number > 0 {
		s.led.Print(number)
	}
	return err
}

// fate says what the answer to COMMIT means. A FATAL is no denial: a server that
// is shut down while it waits for its standby has committed already.
func fate(err error) Fate {
	var p *pgconn.PgError
	switch {
	case err == nil:
		return Acknowledged
	case errors.Is(err, errRolledBack), errors.As(err, &p) && p.Severity == "ERROR":
		return Refused
	}
	return InDoubt
}

// fill sends BEGIN and the rows of one transaction; number is that of the
// certificate, if there is one.
func (s *seat) fill(op *Op, number *int64) error {
	p, b := s.somebody(), &pgx.Batch{}
	now := time.Now()
	b.Queue("begin")
	body := op.Kind.String()
	switch op.Kind {
	case Certificate:
		b.Queue(`with made as (insert into certificate (resident, kind) values ($1, $2) returning number)
			insert into issue_log select number, $3, $4 from made returning number`,
			p.ID, certificates[s.rng.IntN(len(certificates))], s.Name, now).
			QueryRow(func(r pgx.Row) error { return r.Scan(number) })
	case MoveIn:
		// Their numbers are far above those of the generated town.
		home := 1_000_000_000 + op.N*10
		b.Queue("insert into household values ($1, $2, $3)", home, address(s.rng), now)
		for i := range 1 + s.rng.Int64N(4) {
			who := s.somebody()
			b.Queue("insert into resident values ($1, $2, $3, $4, $5::date, $6)", home+i, home, who.Name, who.Kana, who.Birth.Format(time.DateOnly), who.Sex)
			b.Queue("insert into register_row values ($1, $2, $3, $4, $5)", home+i, home+i, "転入", now, address(s.rng))
		}
	default:
		body = noise(s.rng, 560)
	}
	b.Queue("insert into ledger values ($1, $2, $3, $4) returning "+where, op.N, s.Name, now, body).
		QueryRow(func(r pgx.Row) error { return r.Scan(&op.Server, &op.Recovery) })
	return s.conn.SendBatch(context.Background(), b).Close()
}
