// Command interop does on NATS what the platform's Go services do, with the client library they use, quirks included.
// Tests drive it by flags and standard input; it prints one JSON line per ack and per handled event.
//
//	interop declare -url URL -topic T [-group G]                          the stream, and the group's durable
//	interop produce -url URL -topic T [-jetstream]                        one batch per line: {"key": "k", "bodies": […]}
//	interop consume -url URL -topic T -group G [-jetstream] [-count N] [-nak N] [-work TIME] [-plain] [-unsubscribe]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// options are what the tests choose.
type options struct {
	url         string
	topic       string
	group       string
	jetstream   bool
	count       int
	nak         int
	work        time.Duration
	plain       bool
	unsubscribe bool
}

// batch is one BatchSend: its bodies are numbered from 0.
type batch struct {
	Key    string            `json:"key"`
	Bodies []json.RawMessage `json:"bodies"`
}

// sent is one line per published body.
type sent struct {
	ID        string `json:"id,omitempty"`
	Stream    string `json:"stream,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`
	Duplicate bool   `json:"duplicate"`
}

// handled is one line per handled event. The platform's handlers see only topic, group and body.
type handled struct {
	Topic   string            `json:"topic"`
	Group   string            `json:"group"`
	Event   any               `json:"event"`
	Headers map[string]string `json:"headers"`
	Attempt uint64            `json:"attempt"`
	Settled string            `json:"settled"`
}

var (
	out   = json.NewEncoder(os.Stdout)
	outMu sync.Mutex
)

func emit(line any) error {
	outMu.Lock()
	defer outMu.Unlock()
	return out.Encode(line)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("declare, produce or consume?")
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&o.url, "url", nats.DefaultURL, "address of the server")
	flags.StringVar(&o.topic, "topic", "", "topic")
	flags.StringVar(&o.group, "group", "", "group")
	flags.BoolVar(&o.jetstream, "jetstream", false, "JetStream mode; else core mode")
	flags.IntVar(&o.count, "count", 0, "consume: end after so many deliveries; 0 is never")
	flags.IntVar(&o.nak, "nak", 0, "consume: how many deliveries to fail, from the first on")
	flags.DurationVar(&o.work, "work", 0, "consume: how long the handler takes")
	flags.BoolVar(&o.plain, "plain", false, "consume: take any JSON object; else only the platform's events")
	flags.BoolVar(&o.unsubscribe, "unsubscribe", false, "consume: unsubscribe at the end, as the platform does")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	switch args[0] {
	case "declare":
		return declare(o)
	case "produce":
		return produce(o)
	case "consume":
		return consume(ctx, o)
	}
	return fmt.Errorf("%q is not declare, produce or consume", args[0])
}

func connect(url, name string) (*nats.Conn, error) {
	return nats.Connect(url, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(2*time.Second))
}

// ensureStream makes the topic's stream only when there is none; an existing one is used as it is.
func ensureStream(js nats.JetStreamContext, topic string) error {
	name := strings.ReplaceAll(topic, ".", "_") + "_STREAM"
	_, err := js.StreamInfo(name)
	if !errors.Is(err, nats.ErrStreamNotFound) {
		return err
	}
	_, err = js.AddStream(&nats.StreamConfig{
		Name:     name,
		Subjects: []string{topic},
		Storage:  nats.FileStorage,
		MaxAge:   24 * time.Hour,
		MaxMsgs:  1_000_000,
		MaxBytes: 1 << 30,
	})
	return err
}

type producer struct {
	nc    *nats.Conn
	js    nats.JetStreamContext // nil in core mode
	topic string
}

func newProducer(o options) (*producer, error) {
	nc, err := connect(o.url, "coze-studio-producer")
	if err != nil {
		return nil, err
	}
	p := &producer{nc: nc, topic: o.topic}
	if !o.jetstream {
		return p, nil
	}
	if p.js, err = nc.JetStream(); err != nil {
		return nil, err
	}
	return p, ensureStream(p.js, o.topic)
}

// batchSend sends as the platform does: in JetStream mode the key becomes a message id, so a second event with the same
// key and index is dropped by the server.
func (p *producer) batchSend(key string, bodies [][]byte) error {
	for i, body := range bodies {
		msg := nats.NewMsg(p.topic)
		msg.Data = body
		line := sent{}
		if p.js == nil {
			if key != "" {
				msg.Header.Set("Sharding-Key", key)
			}
			if err := p.nc.PublishMsg(msg); err != nil {
				return err
			}
		} else {
			if key != "" {
				line.ID = fmt.Sprintf("%s-%d", key, i)
				msg.Header.Set(nats.MsgIdHdr, line.ID)
			}
			ack, err := p.js.PublishMsg(msg)
			if err != nil {
				return err
			}
			line.Stream, line.Sequence, line.Duplicate = ack.Stream, ack.Sequence, ack.Duplicate
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

func declare(o options) error {
	o.jetstream = true
	p, err := newProducer(o)
	if err != nil {
		return err
	}
	defer p.nc.Close()
	if o.group != "" {
		_, err = p.js.PullSubscribe(o.topic, o.group)
	}
	return err
}

func produce(o options) error {
	p, err := newProducer(o)
	if err != nil {
		return err
	}
	defer p.nc.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var b batch
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return err
		}
		bodies := make([][]byte, len(b.Bodies))
		for i, raw := range b.Bodies {
			event, err := decode(raw)
			if err != nil {
				return err
			}
			if bodies[i], err = json.Marshal(event); err != nil {
				return err
			}
		}
		if err := p.batchSend(b.Key, bodies); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return p.nc.Flush()
}

func consume(ctx context.Context, o options) error {
	nc, err := connect(o.url, o.group+"-consumer")
	if err != nil {
		return err
	}
	defer nc.Close()
	w := &worker{options: o}
	if o.jetstream {
		err = w.jetStream(ctx, nc)
	} else {
		err = w.core(ctx, nc)
	}
	if err != nil || nc.IsClosed() {
		return err
	}
	return nc.FlushTimeout(5 * time.Second)
}

type worker struct {
	options
	deliveries int
}

// handle is the user's handler: it fails as often as it was told to.
func (w *worker) handle(msg *nats.Msg) (handled, error) {
	event, err := w.decode(msg.Data)
	if err != nil {
		return handled{}, err
	}
	time.Sleep(w.work)
	line := handled{Topic: msg.Subject, Group: w.group, Event: event, Headers: map[string]string{}, Attempt: 1}
	for name := range msg.Header {
		line.Headers[name] = msg.Header.Get(name)
	}
	w.deliveries++
	if w.deliveries <= w.nak {
		return line, errors.New("told to fail")
	}
	return line, nil
}

func (w *worker) decode(body []byte) (any, error) {
	if !w.plain {
		return decode(body)
	}
	var event map[string]any
	err := json.Unmarshal(body, &event)
	return event, err
}

func (w *worker) done() bool { return w.count > 0 && w.deliveries >= w.count }

// jetStream is the platform's serial loop: fetch one, handle it, ack or nak it.
func (w *worker) jetStream(ctx context.Context, nc *nats.Conn) error {
	js, err := nc.JetStream()
	if err != nil {
		return err
	}
	sub, err := js.PullSubscribe(w.topic, w.group)
	if err != nil {
		return err
	}
	ready()
	for !w.done() {
		msgs, err := sub.Fetch(1, nats.Context(ctx))
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		for _, msg := range msgs {
			if err := w.settle(msg); err != nil {
				return err
			}
		}
	}
	if w.unsubscribe {
		return sub.Unsubscribe()
	}
	return nil
}

func (w *worker) settle(msg *nats.Msg) error {
	line, failure := w.handle(msg)
	if line.Event == nil {
		return failure
	}
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	line.Attempt = meta.NumDelivered
	if failure != nil {
		line.Settled, err = "nak", msg.Nak()
	} else {
		line.Settled, err = "ack", msg.Ack()
	}
	if err != nil {
		return err
	}
	return emit(line)
}

// core is the platform's queue group: nothing is settled, an error is only logged.
func (w *worker) core(ctx context.Context, nc *nats.Conn) error {
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	_, err := nc.QueueSubscribe(w.topic, w.group, func(msg *nats.Msg) {
		line, err := w.handle(msg)
		if line.Event != nil {
			err = emit(line)
		}
		if err != nil || w.done() {
			end(err)
		}
	})
	if err != nil {
		return err
	}
	// Not the platform's: whoever publishes after this is heard.
	if err := nc.Flush(); err != nil {
		return err
	}
	ready()
	select {
	case <-ctx.Done():
		// Not the platform's: what has come is handled, so that a test sees every delivery there was.
		closed := make(chan struct{})
		nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		if err := nc.Drain(); err != nil {
			return err
		}
		<-closed
		return nil
	case err := <-ended:
		return err
	}
}

func ready() { _ = emit(map[string]bool{"ready": true}) }
