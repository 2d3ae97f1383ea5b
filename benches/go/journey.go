package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

const stamp = 8

// now is the clock that all processes of a machine share, in nanoseconds; Go's own has no absolute value.
func now() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}

func stamped(at []byte, size int) []byte {
	body := make([]byte, size)
	copy(body, at)
	return body
}

// consume acks every message and hands it on.
func consume(js jetstream.JetStream, spec *Spec, durable string, handle func([]byte)) error {
	consumer, err := js.Consumer(context.Background(), spec.Stream, durable)
	if err != nil {
		return err
	}
	_, err = consumer.Consume(func(m jetstream.Msg) {
		handle(m.Data())
		_ = m.Ack()
	})
	return err
}

// closed sends as fast as it goes with at most the window between the two ends.
func closed(spec *Spec, js jetstream.JetStream, ends []*atomic.Int64, arrived chan struct{}, body func() []byte) (Outcome, error) {
	slowest := func() int {
		least := ends[0].Load()
		for _, end := range ends[1:] {
			least = min(least, end.Load())
		}
		return int(least)
	}
	marks := newMarks(spec)
	ready()
	for sent := 0; ; {
		got := slowest()
		if marks.due(got) {
			return marks.outcome(), nil
		}
		for ; sent < got+spec.Window; sent++ {
			if _, err := js.PublishAsync(spec.Subject, body(), jetstream.WithStallWait(10*time.Second)); err != nil {
				return Outcome{}, err
			}
		}
		<-arrived
	}
}

// bell rings without waiting for anyone to hear it.
func bell(arrived chan struct{}) {
	select {
	case arrived <- struct{}{}:
	default:
	}
}

func journey(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err != nil {
		return Outcome{}, err
	}
	var got atomic.Int64
	arrived := make(chan struct{}, 1)
	if spec.Rate == 0 {
		err := consume(js, spec, spec.Durable, func([]byte) {
			if got.Add(1)%16 == 0 {
				bell(arrived)
			}
		})
		if err != nil {
			return Outcome{}, err
		}
		body := make([]byte, spec.Size)
		return closed(spec, js, []*atomic.Int64{&got}, arrived, func() []byte { return body })
	}
	times := make(chan time.Duration, 1<<20)
	err = consume(js, spec, spec.Durable, func(body []byte) {
		times <- time.Duration(now() - binary.LittleEndian.Uint64(body))
	})
	if err != nil {
		return Outcome{}, err
	}
	marks := newMarks(spec)
	marks.open(0)
	ready()
	input := bufio.NewReader(os.Stdin)
	at := make([]byte, stamp)
	sent := 0
	for ; ; sent++ {
		if _, err := io.ReadFull(input, at); err != nil {
			break
		}
		if _, err := js.PublishAsync(spec.Subject, stamped(at, spec.Size), jetstream.WithStallWait(10*time.Second)); err != nil {
			return Outcome{}, err
		}
	}
	took := make([]time.Duration, 0, sent)
	for limit := time.After(10 * time.Second); len(took) < sent; {
		select {
		case t := <-times:
			took = append(took, t)
		case <-limit:
			return Outcome{}, fmt.Errorf("%d of %d messages did not come", sent-len(took), sent)
		}
	}
	marks.close(sent)
	outcome := marks.outcome()
	outcome.Latency = percentiles(took[min(int(spec.Warmup*spec.Rate), sent):])
	return outcome, nil
}

func agent(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err != nil {
		return Outcome{}, err
	}
	ends := make([]*atomic.Int64, 3)
	arrived := make(chan struct{}, 1)
	for i := range ends {
		end := &atomic.Int64{}
		ends[i] = end
		err := consume(js, spec, fmt.Sprintf("%s-%d", spec.Durable, i), func(body []byte) {
			var event map[string]any
			if json.Unmarshal(body, &event) == nil && end.Add(1)%16 == 0 {
				bell(arrived)
			}
		})
		if err != nil {
			return Outcome{}, err
		}
	}
	var event map[string]any
	if err := json.Unmarshal([]byte(spec.Body), &event); err != nil {
		return Outcome{}, err
	}
	at := 0
	body := func() []byte {
		at++
		event["at"] = at
		encoded, _ := json.Marshal(event)
		return encoded
	}
	return closed(spec, js, ends, arrived, body)
}

func fanOut(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err != nil {
		return Outcome{}, err
	}
	marks := newMarks(spec)
	got := make(chan struct{}, 4096)
	for i := 0; i < spec.Consumers; i++ {
		err := consume(js, spec, fmt.Sprintf("%s-%d", spec.Durable, i), func([]byte) { got <- struct{}{} })
		if err != nil {
			return Outcome{}, err
		}
	}
	ready()
	n := 0
	for range got {
		if n++; n%16 == 0 && marks.due(n) {
			break
		}
	}
	return marks.outcome(), nil
}

func idle(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err == nil {
		err = consume(js, spec, spec.Durable, func([]byte) {})
	}
	if err != nil {
		return Outcome{}, err
	}
	marks := newMarks(spec)
	time.Sleep(seconds(spec.Warmup))
	marks.open(0)
	time.Sleep(seconds(spec.Seconds))
	marks.close(0)
	return marks.outcome(), nil
}
