package main

// kind says what an item of the queue means.
type kind uint8

const (
	doFunc   kind = iota // p is a func()
	doBeat               // p is a *detect.Message that arrives on path n of node
	doLook               // node looks at database n
	doProbe              // node probes service n
	doTurn               // client n acts
	doCommit             // write n is flushed
	doReply              // write n's reply arrives
	doShip               // log arrives at server n
	doStep               // p is a *flight whose next sub-step is due
)

// item is something that happens at a time of the world.
type item struct {
	at   int64 // ns
	seq  uint64
	p    any
	n    int32
	node uint8
	kind kind
}

// queue is a binary heap of items by time, then order of insertion.
type queue struct {
	items []item
	seq   uint64
}

func (q *queue) push(it item) {
	q.seq++
	it.seq = q.seq
	q.items = append(q.items, it)
	i := len(q.items) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q.less(&it, &q.items[up]) {
			break
		}
		q.items[i] = q.items[up]
		i = up
	}
	q.items[i] = it
}

func (q *queue) pop() item {
	top := q.items[0]
	last := len(q.items) - 1
	it := q.items[last]
	q.items[last] = item{}
	q.items = q.items[:last]
	if last == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q.less(&q.items[c+1], &q.items[c]) {
			c++
		}
		if !q.less(&q.items[c], &it) {
			break
		}
		q.items[i] = q.items[c]
		i = c
	}
	q.items[i] = it
	return top
}

func (q *queue) less(a, b *item) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }
