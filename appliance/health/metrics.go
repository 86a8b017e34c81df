package health

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"komainu/appliance/control"
)

// collector turns one status into metrics. States are numbers, in the order
// that the help text gives; labels never hold a state.
type collector struct {
	st  control.Status
	err error
}

// Describe sends nothing: which metrics there are depends on the status.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of the status.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	o := out{ch, c.st.Site}
	o.gauge("agent_answers_state", "1 when the agent's loop answers, else 0 and nothing else is told", flag(c.err == nil))
	if c.err != nil {
		return
	}
	o.gauge("agent_uptime_seconds", "time since the agent's start", c.st.UptimeS)
	o.gauge("alarm_raised_number", "alarms that stand", float64(len(c.st.Alarms)))
	o.gauge("verdict_usable_state", "1 when the data centre can be used", flag(c.st.Verdict.Usable))
	o.gauge("verdict_place_state", "place of the fault: "+list(places), number(places, c.st.Verdict.Place))
	o.gauge("verdict_age_seconds", "time since the verdict changed", c.st.Verdict.SinceS)
	if c.st.Box != nil {
		o.box(c.st.Box)
	}
	for _, p := range c.st.Paths {
		o.path(p)
	}
	for _, g := range c.st.Groups {
		o.group(g, c.st)
	}
	for _, s := range c.st.Services {
		o.service(s)
	}
	for _, d := range c.st.Databases {
		o.database(d)
	}
	o.moves(c.st)
}

// Names of states; a state's number is its place.
const (
	places  = "none line dc-edge dc-service own-lan own-box"
	states  = "admin-down down init up"
	modes   = "dc local-read local-write returning"
	targets = "none dc local parked"
	roles   = "unknown absent unusable stopped starting standby primary hung"
)

// number is the place of name in names, -1 if it has none.
func number(names, name string) float64 {
	return float64(slices.Index(strings.Fields(names), name))
}

// list is names with their numbers: "none 0, line 1".
func list(names string) string {
	var all []string
	for i, n := range strings.Fields(names) {
		all = append(all, n+" "+strconv.Itoa(i))
	}
	return strings.Join(all, ", ")
}

// out sends metrics; kv are label names and values behind site.
type out struct {
	ch   chan<- prometheus.Metric
	site string
}

func (o out) send(kind prometheus.ValueType, name, help string, v float64, kv []string) {
	names, values := []string{"site"}, []string{o.site}
	for i := 0; i < len(kv); i += 2 {
		names, values = append(names, kv[i]), append(values, kv[i+1])
	}
	o.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("komainu_"+name, help, names, nil), kind, v, values...)
}

func (o out) gauge(name, help string, v float64, kv ...string) {
	o.send(prometheus.GaugeValue, name, help, v, kv)
}

func (o out) counter(name, help string, v float64, kv ...string) {
	o.send(prometheus.CounterValue, name, help, v, kv)
}

func (o out) path(p control.Path) {
	l := []string{"path", p.Name, "peer", p.Peer, "interface", p.Interface}
	o.gauge("path_session_state", "RFC 5880: "+list(states), number(states, p.State), l...)
	o.gauge("path_rtt_seconds", "round trip of recent heartbeats", p.RTTMs/1000, l...)
	o.gauge("path_jitter_seconds", "how much one round trip differs from the next", p.JitterMs/1000, l...)
	o.gauge("path_loss_ratio", "loss of recent heartbeats, 0 to 1", p.Loss, l...)
	o.gauge("path_carrier_state", "1 when the interface has a carrier", flag(p.Carrier), l...)
	o.gauge("path_carries_state", "1 when traffic takes this path", flag(p.Carries), l...)
	o.gauge("path_age_seconds", "time in this state", p.SinceS, l...)
	if w := p.Width; w != nil {
		o.gauge("path_mtu_bytes", "largest packet that routes over the tunnel allow, 0 when not known", float64(w.Used), l...)
		o.gauge("path_mtu_out_bytes", "largest packet found to pass towards the peer", float64(w.Out), l...)
		o.gauge("path_mtu_in_bytes", "largest packet that the peer found to pass towards us", float64(w.In), l...)
		o.gauge("path_capacity_bytes", "per second, measured by a few packets back to back", w.BitPerS/8, l...)
	}
	o.counter("path_refused_total", "heartbeats that were forged, damaged or of another source", float64(p.Refused), l...)
}

func (o out) group(g control.Group, st control.Status) {
	l := []string{"group", g.Name}
	o.gauge("group_mode_state", "where clients are served: "+list(modes), number(modes, g.Mode), l...)
	o.gauge("group_mode_seconds", "time in this mode", st.Time.Sub(g.Since).Seconds(), l...)
	o.gauge("group_term_number", "highest durable term", float64(g.Term), l...)
	o.gauge("group_hold_state", "1 when an operator froze automatic moves", flag(g.Hold), l...)
	o.gauge("group_blocks_number", "reasons that keep the group from returning", float64(len(g.Blocks)), l...)
	o.gauge("group_hold_down_seconds", "stability still to show before a return", g.HoldDownLeftS, l...)
	o.gauge("group_flaps_number", "recent moves that count for damping", float64(g.Flaps), l...)
	o.gauge("group_read_age_seconds", "age of what local reads see", g.ReadAgeS, l...)
	o.gauge("group_dual_write_seconds", "window in which both sides may have acknowledged writes", g.DualWriteMs/1000, l...)
	o.gauge("group_switch_duration_seconds", "decision to proof, of the last move", g.LastSwitchMs/1000, l...)
	o.counter("group_switches_total", "moves since the agent's start", float64(g.Switches), l...)
}

func (o out) service(s control.Service) {
	l := []string{"service", s.Name, "group", s.Group}
	o.gauge("service_target_state", "where clients go: "+list(targets), number(targets, s.Target), l...)
	o.gauge("service_probe_state", "1 when the last probe was answered", flag(s.Probe.OK), l...)
	o.gauge("service_probe_duration_seconds", "how long the last answer took", s.Probe.LastMs/1000, l...)
	o.gauge("service_probe_failures_number", "failed probes in a row", float64(s.Probe.Fails), l...)
}

func (o out) database(d control.Database) {
	l := []string{"database", d.Name, "group", d.Group}
	o.gauge("database_role_state", "of the cluster on this box: "+list(roles), number(roles, d.Role), l...)
	o.gauge("database_lag_bytes", "log that the copy lacks", float64(d.LagBytes), l...)
	o.gauge("database_lag_seconds", "age of the oldest change that the copy lacks", d.LagS, l...)
	o.gauge("database_ready_state", "1 when it would serve reads if the primary vanished now", flag(d.Ready), l...)
	o.gauge("database_restart_ready_state", "1 when it would also after a restart", flag(d.RestartReady), l...)
	o.gauge("database_sessions_number", "client backends", float64(d.Sessions), l...)
	o.gauge("database_copy_ratio", "progress of a copy or rewind, 1 when none runs", float64(d.CopyPercent)/100, l...)
	o.gauge("database_orphans_number", "commits of the data centre to set aside; -1 when not listed", float64(d.Orphans), l...)
	o.gauge("database_remote_age_seconds", "age of the other side's report; negative when never heard", d.Remote.AgeS, l...)
}

// moves are the figures of the last order and the last return.
func (o out) moves(st control.Status) {
	if w := st.LastWriteOrder; w != nil {
		o.gauge("write_order_duration_seconds", "last write order, to the first possible write", w.TotalMs/1000, "group", w.Group)
		o.gauge("write_fence_duration_seconds", "of that, until the data centre confirmed its fence", w.FenceMs/1000, "group", w.Group)
	}
	r := st.LastReturn
	if r == nil {
		return
	}
	o.gauge("return_duration_seconds", "last return, from the order to the lock of the local side", r.TotalMs/1000, "group", r.Group)
	o.gauge("return_parked_seconds", "how long new connections waited in the last return", r.ParkedMs/1000, "group", r.Group)
	o.gauge("return_sessions_number", "idle sessions ended in the last return", float64(r.SessionsEnded), "group", r.Group)
	o.gauge("return_transactions_number", "transactions aborted in the last return", float64(r.TransactionsAborted), "group", r.Group)
	o.gauge("return_orphans_number", "commits set aside in the last return", float64(r.Orphans), "group", r.Group)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
