package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"
	"time"
)

// credit: a receiver tells how far it is every so many messages.
const credit = 4096

// Spec is what to run; the runner fills in what a workload needs.
type Spec struct {
	Workload  string  `json:"workload"`
	Mode      string  `json:"mode"`
	URL       string  `json:"url"`
	Subject   string  `json:"subject"`
	Stream    string  `json:"stream"`
	Durable   string  `json:"durable"`
	Size      int     `json:"size"`
	Body      string  `json:"body"`
	Seconds   float64 `json:"seconds"`
	Warmup    float64 `json:"warmup"`
	Count     int     `json:"count"`
	Available int     `json:"available"`
	Window    int     `json:"window"`
	Batch     int     `json:"batch"`
	IDs       bool    `json:"ids"`
	Keys      int     `json:"keys"`
	Consumers int     `json:"consumers"`
	Rate      float64 `json:"rate"`
	Cap       float64 `json:"cap"`
}

func (s *Spec) payload() []byte {
	if s.Body != "" {
		return []byte(s.Body)
	}
	return []byte(strings.Repeat("x", s.Size))
}

func (s *Spec) creditSubject() string { return s.Subject + ".credit" }

// Outcome is what a run gave; printed as one line of JSON.
type Outcome struct {
	Seconds  float64            `json:"seconds"`
	Messages int                `json:"messages"`
	CPU      float64            `json:"cpu"`
	RSS      int                `json:"rss_kb"`
	Total    int                `json:"total"`
	Latency  map[string]float64 `json:"latency,omitempty"`
}

func ready() { fmt.Println(`{"ready":true}`) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peak is the most memory held since the program began; getrusage's would include the runner's, from before exec.
func peak() int {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb
		}
	}
	return 0
}

// percentiles of times, in microseconds.
func percentiles(times []time.Duration) map[string]float64 {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	out := map[string]float64{"count": float64(len(times))}
	if len(times) == 0 {
		return out
	}
	for name, share := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1} {
		out[name] = float64(times[int(float64(len(times)-1)*share+0.5)].Nanoseconds()) / 1000
	}
	return out
}

type mark struct {
	at  time.Time
	cpu float64
	n   int
}

// Marks is where the measured interval begins and ends: bounded by time, or by a count; then 5 % are the warm-up.
type Marks struct {
	spec     *Spec
	began    time.Time
	from, to *mark
}

func newMarks(spec *Spec) *Marks { return &Marks{spec: spec, began: time.Now()} }

func (m *Marks) open(n int)  { m.from = &mark{time.Now(), cpu(), n} }
func (m *Marks) close(n int) { m.to = &mark{time.Now(), cpu(), n} }

// due tells whether the run is over, n messages after its start.
func (m *Marks) due(n int) bool {
	s := m.spec
	over := false
	if m.from == nil {
		if s.Count > 0 && n >= s.Count/20 || s.Count == 0 && time.Since(m.began) >= seconds(s.Warmup) {
			m.open(n)
		}
	} else if s.Count > 0 {
		over = n >= s.Count
	} else {
		over = time.Since(m.from.at) >= seconds(s.Seconds)
	}
	late := s.Cap > 0 && time.Since(m.began) > seconds(s.Cap)
	if over || late || s.Available > 0 && n >= s.Available {
		m.close(n)
		return true
	}
	return false
}

func (m *Marks) outcome() Outcome {
	if m.from == nil || m.to == nil {
		return Outcome{}
	}
	return Outcome{
		Seconds:  m.to.at.Sub(m.from.at).Seconds(),
		Messages: m.to.n - m.from.n,
		CPU:      m.to.cpu - m.from.cpu,
		RSS:      peak(),
		Total:    m.to.n,
	}
}

// bursts sends for the time of the warm-up, flushes; then for the measured time, and flushes.
func bursts(spec *Spec, send func(n int) error, flush func() error) (Outcome, error) {
	marks := newMarks(spec)
	n := 0
	ready()
	for _, part := range []struct {
		seconds float64
		mark    func(int)
	}{{spec.Warmup, marks.open}, {spec.Seconds, marks.close}} {
		for began := time.Now(); time.Since(began) < seconds(part.seconds); n += 64 {
			if err := send(64); err != nil {
				return Outcome{}, err
			}
		}
		if err := flush(); err != nil {
			return Outcome{}, err
		}
		part.mark(n)
	}
	return marks.outcome(), nil
}

func main() {
	spec := &Spec{}
	work := map[string]func(*Spec) (Outcome, error){
		"core_publish": corePublish, "core_receive": coreReceive, "request": request, "js_publish": jsPublish,
		"js_consume": jsConsume, "js_fetch1": jsFetch1, "journey": journey, "agent": agent, "fan_out": fanOut,
		"idle": idle,
	}
	err := json.Unmarshal([]byte(os.Args[1]), spec)
	if err == nil && work[spec.Workload] == nil {
		err = fmt.Errorf("the nats.go peer has no workload %q", spec.Workload)
	}
	var outcome Outcome
	if err == nil {
		outcome, err = work[spec.Workload](spec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	line, _ := json.Marshal(outcome)
	fmt.Println(string(line))
}
