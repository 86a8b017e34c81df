package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"komainu/ntp/wall"
)

// Readers of values: each gives a function that sets to.

func text(to *string) func(string) error {
	return func(s string) error { *to = s; return nil }
}

func duration(to *time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseDuration(s)
		*to = d
		return err
	}
}

// parseDuration knows days too.
func parseDuration(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if v, err := strconv.ParseFloat(n, 64); err == nil && math.Abs(v) < 10_000 {
			return time.Duration(v * float64(day*second)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration, such as 100us, 1.5h or 3d", s)
	}
	return d, nil
}

func ppm(to *float64) func(string) error {
	return func(s string) error {
		n, ok := strings.CutSuffix(s, "ppm")
		v, err := strconv.ParseFloat(n, 64)
		if err != nil || !ok && v != 0 {
			return fmt.Errorf("%q is no frequency, such as 50ppm", s)
		}
		*to = v
		return nil
	}
}

func number(to *float64) func(string) error {
	return func(s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || v < 0 {
			return fmt.Errorf("%q is no number, such as 1e-9", s)
		}
		*to = v
		return nil
	}
}

func share(to *float64) func(string) error {
	return func(s string) error {
		n, ok := strings.CutSuffix(s, "%")
		v, err := strconv.ParseFloat(n, 64)
		if err != nil || !ok || v < 0 || v > 100 {
			return fmt.Errorf("%q is no share, such as 5%%", s)
		}
		*to = v / 100
		return nil
	}
}

func integer[T int | int8 | uint8](to *T) func(string) error {
	return func(s string) error {
		v, err := strconv.Atoi(s)
		if err != nil || int(T(v)) != v {
			return fmt.Errorf("%q is no number that fits", s)
		}
		*to = T(v)
		return nil
	}
}

func yes(to *bool) func(string) error {
	return func(s string) error {
		if s != "yes" && s != "no" {
			return fmt.Errorf("%q is neither yes nor no", s)
		}
		*to = s == "yes"
		return nil
	}
}

func moment(to *wall.Time, layout string) func(string) error {
	return func(s string) error {
		t, err := time.Parse(layout, s)
		if err != nil {
			return fmt.Errorf("%q is no moment, such as %s: %w", s, layout, err)
		}
		*to = wall.Time(t.UTC().Truncate(time.Second).UnixNano())
		return nil
	}
}
