package health

import (
	"context"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
)

func TestTimeMetrics(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 5, 0, 0, time.UTC)
	var st *control.TimeStatus
	get := ask(t, func(context.Context) (control.Status, error) { return status(), nil }, TimeMetrics("hinata-cho", func() *control.TimeStatus { return st }))
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, `komainu_time_answers_state{site="hinata-cho"} 0`) || strings.Contains(body, "komainu_time_offset") {
		t.Errorf("without the daemon: %d %s", code, body)
	}
	st = &control.TimeStatus{Time: now, State: "holdover", Stratum: 3, OffsetS: 1.5e-5, FrequencyPPM: -12.5, BoundS: 0.0041, CorrectedAgoS: 10800,
		Holdover:  &control.Holdover{ForS: 10800, BoundS: 0.0041, LimitS: 0.05, LimitAt: now.Add(time.Hour)},
		LeapTable: control.TimeLeap{Expires: now.Add(24 * time.Hour)},
		Sources: []control.TimeSource{{Name: "10.1.0.5", Address: "10.1.0.5:123", State: "silent", Reach: 0o17, LastAgeS: 900, OffsetS: -2e-5, JitterS: 1e-6, DelayS: 0.0012, Queries: 8, Replies: 4},
			{Name: "pool.example", Address: "10.1.0.6:123", State: "followed"}, {Name: "pool.example", Address: "10.1.0.7:123", State: "combined"},
			{Name: "gone.example", State: "unresolved", LastAgeS: -1}, {Name: "gone.example", State: "unresolved", LastAgeS: -1}},
		Server: control.TimeServer{Requests: map[string]uint64{"plain": 7}, Drops: map[string]uint64{"too-short": 2}, Clients: 5},
		NTS:    &control.TimeNTSServer{KE: map[string]uint64{"done": 3}, KeyAgeS: 60, Certificate: now.Add(-time.Second)}}
	code, body := get("/metrics")
	if code != 200 {
		t.Fatal(code, body)
	}
	for _, want := range []string{
		`komainu_time_answers_state{site="hinata-cho"} 1`,
		`komainu_time_discipline_state{site="hinata-cho"} 2`,
		`komainu_time_offset_seconds{site="hinata-cho"} 1.5e-05`,
		`komainu_time_frequency_ratio{site="hinata-cho"} -1.25e-05`,
		`komainu_time_bound_seconds{site="hinata-cho"} 0.0041`,
		`komainu_time_holdover_age_seconds{site="hinata-cho"} 10800`,
		`komainu_time_holdover_left_seconds{site="hinata-cho"} 3600`,
		`komainu_time_leap_left_seconds{site="hinata-cho"} 86400`,
		`komainu_time_requests_plain_total{site="hinata-cho"} 7`,
		`komainu_time_drops_too_short_total{site="hinata-cho"} 2`,
		`komainu_time_exchanges_done_total{site="hinata-cho"} 3`,
		`komainu_time_certificate_left_seconds{site="hinata-cho"} -1`,
		`komainu_time_source_state{peer="10.1.0.5",site="hinata-cho"} 1`,
		`komainu_time_source_reach_ratio{peer="10.1.0.5",site="hinata-cho"} 0.5`,
		`komainu_time_source_delay_seconds{peer="10.1.0.5",site="hinata-cho"} 0.0012`,
		`komainu_time_source_state{peer="pool.example 10.1.0.7:123",site="hinata-cho"} 6`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	named(t, body)
}
