package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func open(spec *Spec) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(spec.URL)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(max(spec.Window, 1)))
	return nc, js, err
}

func jsPublish(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err != nil {
		return Outcome{}, err
	}
	body := spec.payload()
	ctx := context.Background()
	at := 0
	var failed error
	message := func() *nats.Msg {
		m := &nats.Msg{Subject: spec.Subject, Data: body}
		if spec.IDs {
			m.Header = nats.Header{"Nats-Msg-Id": {fmt.Sprintf("bench.%016x", at)}}
		} else if spec.Keys > 0 {
			m.Header = nats.Header{"Sharding-Key": {fmt.Sprintf("key-%d", at%spec.Keys)}}
		}
		at++
		return m
	}
	send := func(n int) error {
		for i := 0; i < n; i++ {
			if spec.Window == 1 {
				_, failed = js.PublishMsg(ctx, message())
			} else {
				_, failed = js.PublishMsgAsync(message(), jetstream.WithStallWait(10*time.Second))
			}
			if failed != nil {
				return failed
			}
		}
		return nil
	}
	flush := func() error {
		<-js.PublishAsyncComplete()
		return nil
	}
	return bursts(spec, send, flush)
}

// settle acks a message; the last one of a run so that the server's word is waited for.
func settle(m jetstream.Msg, marks *Marks, n, every int) (bool, error) {
	if n%every == 0 && marks.due(n) {
		err := m.DoubleAck(context.Background())
		marks.close(n)
		return true, err
	}
	return false, m.Ack()
}

func jsConsume(spec *Spec) (Outcome, error) {
	_, js, err := open(spec)
	if err != nil {
		return Outcome{}, err
	}
	consumer, err := js.Consumer(context.Background(), spec.Stream, spec.Durable)
	if err != nil {
		return Outcome{}, err
	}
	marks := newMarks(spec)
	n := 0
	over := false
	ready()
	switch spec.Mode {
	case "callback":
		done := make(chan error, 1)
		running, err := consumer.Consume(func(m jetstream.Msg) {
			if over {
				return
			}
			n++
			var err error
			if over, err = settle(m, marks, n, 16); over || err != nil {
				over = true
				done <- err
			}
		})
		if err != nil {
			return Outcome{}, err
		}
		err = <-done
		running.Stop()
		return marks.outcome(), err
	case "fetch":
		for {
			batch, err := consumer.Fetch(spec.Batch)
			if err != nil {
				return Outcome{}, err
			}
			for m := range batch.Messages() {
				n++
				if over, err = settle(m, marks, n, 16); over || err != nil {
					return marks.outcome(), err
				}
			}
		}
	default:
		messages, err := consumer.Messages()
		if err != nil {
			return Outcome{}, err
		}
		for {
			m, err := messages.Next()
			if err != nil {
				return Outcome{}, err
			}
			n++
			if over, err = settle(m, marks, n, 16); over || err != nil {
				return marks.outcome(), err
			}
		}
	}
}

// jsFetch1 is the platform's own loop: the legacy context, a fetch of one, an ack, the next.
func jsFetch1(spec *Spec) (Outcome, error) {
	nc, err := nats.Connect(spec.URL)
	if err != nil {
		return Outcome{}, err
	}
	js, err := nc.JetStream()
	if err != nil {
		return Outcome{}, err
	}
	sub, err := js.PullSubscribe(spec.Subject, spec.Durable, nats.Bind(spec.Stream, spec.Durable))
	if err != nil {
		return Outcome{}, err
	}
	marks := newMarks(spec)
	n := 0
	ready()
	for {
		messages, err := sub.Fetch(1)
		if err != nil {
			return Outcome{}, err
		}
		for _, m := range messages {
			n++
			if marks.due(n) {
				err := m.AckSync()
				marks.close(n)
				return marks.outcome(), err
			}
			if err := m.Ack(); err != nil {
				return Outcome{}, err
			}
		}
	}
}
