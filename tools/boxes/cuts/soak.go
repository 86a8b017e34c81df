package cuts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// line is a Result in the file that results are added to.
type line struct {
	Result
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"`
}

// Soak makes n cuts with the seeds from first on, the kinds by turns, on one box
// after another: a box that broke a promise is replaced. With record, a line of
// JSON is added to that file for each cut, so that the parts of a long run add
// up. Each is told when it is over. The error joins all broken promises.
func Soak(ctx context.Context, first uint64, n int, record string, tell func(Result)) error {
	var t *Target
	var errs []error
	defer func() {
		if t != nil {
			_ = t.Close() // what counts is what the cuts said
		}
	}()
	for i := range uint64(n) { //nolint:gosec // a count
		if t == nil {
			var err error
			if t, err = New(ctx, "cuts"); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		seed := first + i
		r, err := t.Run(ctx, seed, Kinds()[seed%uint64(len(Kinds()))])
		tell(r)
		if ctx.Err() != nil {
			return errors.Join(append(errs, fmt.Errorf("%d of %d cuts were made: %w", i, n, context.Cause(ctx)))...)
		}
		if err := note(record, r, err); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, err, t.Close())
			t = nil
		}
	}
	return errors.Join(errs...)
}

func note(file string, r Result, broken error) error {
	if file == "" {
		return nil
	}
	l := line{Result: r, At: time.Now().UTC().Truncate(time.Second)}
	if broken != nil {
		l.Error = broken.Error()
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("keep a result: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}
