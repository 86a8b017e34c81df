package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"komainu/appliance/control"
)

// QoSMetrics are what went through the queues of lines, for Serve. now is called
// with every scrape, from any goroutine.
func QoSMetrics(site string, now func() (control.QoS, error)) prometheus.Collector {
	return sharing{site, now}
}

type sharing struct {
	site string
	now  func() (control.QoS, error)
}

// Describe sends nothing: which metrics there are depends on the configuration.
func (sharing) Describe(chan<- *prometheus.Desc) {}

// Collect sends the counters of every class of every peer. What a peer has in
// all is their sum.
func (c sharing) Collect(ch chan<- prometheus.Metric) {
	q, err := c.now()
	if err != nil {
		return // the agent's own metrics say so
	}
	o := out{ch, c.site}
	for _, l := range q.Lines {
		o.gauge("qos_queues_state", "1 when the line has its queues", flag(!l.Missing), "interface", l.Interface)
		if len(l.Queues) == 0 {
			o.queue(l.Interface, "", "", l.Total)
		}
		for _, x := range l.Queues {
			if x.Class != "" {
				o.queue(l.Interface, x.Peer, x.Class, x.QoSCount)
			}
		}
	}
}

func (o out) queue(line, peer, class string, n control.QoSCount) {
	l := []string{"class", class, "peer", peer, "interface", line}
	o.counter("qos_bytes_total", "sent, with what encryption adds", float64(n.Bytes), l...)
	o.counter("qos_packets_total", "sent", float64(n.Packets), l...)
	o.counter("qos_drops_total", "packets for which there was no room, or that waited too long", float64(n.Drops), l...)
	o.gauge("qos_backlog_bytes", "waiting now", float64(n.Backlog), l...)
}
