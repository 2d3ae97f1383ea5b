// The peer on nats.go, in the version the platform runs.
package main

import (
	"time"

	"github.com/nats-io/nats.go"
)

func corePublish(spec *Spec) (Outcome, error) {
	nc, err := nats.Connect(spec.URL)
	if err != nil {
		return Outcome{}, err
	}
	body := spec.payload()
	send := func(n int) error {
		for i := 0; i < n; i++ {
			if err := nc.Publish(spec.Subject, body); err != nil {
				return err
			}
		}
		return nil
	}
	return bursts(spec, send, nc.Flush)
}

func coreReceive(spec *Spec) (Outcome, error) {
	nc, err := nats.Connect(spec.URL)
	if err != nil {
		return Outcome{}, err
	}
	done := make(chan Outcome, 1)
	var marks *Marks
	n := 0
	_, err = nc.Subscribe(spec.Subject, func(*nats.Msg) {
		if n++; n%256 != 0 {
			return
		}
		if n%credit == 0 {
			_ = nc.Publish(spec.creditSubject(), nil)
		}
		if marks == nil {
			marks = newMarks(spec)
		}
		if marks.due(n) {
			done <- marks.outcome()
			select {}
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return Outcome{}, err
	}
	ready()
	return <-done, nil
}

func request(spec *Spec) (Outcome, error) {
	nc, err := nats.Connect(spec.URL)
	if err != nil {
		return Outcome{}, err
	}
	body := spec.payload()
	marks := newMarks(spec)
	var times []time.Duration
	ready()
	for n := 1; ; n++ {
		asked := time.Now()
		if _, err := nc.Request(spec.Subject, body, 5*time.Second); err != nil {
			return Outcome{}, err
		}
		if marks.from != nil {
			times = append(times, time.Since(asked))
		}
		if marks.due(n) {
			outcome := marks.outcome()
			outcome.Latency = percentiles(times)
			return outcome, nil
		}
	}
}
