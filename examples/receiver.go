// A webhook receiver on Go's standard library alone (1.19 or newer): verify, store, answer; and then work, from the store.
//
//	HOOK_SECRETS="whsec_..." go run receiver.go
//
// POST /hooks takes the formats event and batch, POST /pusher takes the format pusher.
package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	// Separated by spaces: the new one and the old one, while a secret is being changed.
	secrets = strings.Fields(os.Getenv("HOOK_SECRETS"))
	// For the format pusher, "key:secret" of each app, separated by spaces.
	apps    = pairs(os.Getenv("APPS"))
	maxBody = int64(number("MAX_BODY", 16*1024*1024)) // bytes
	// How long a number may be overtaken by later ones before it counts as missing; lanes and retries make that normal.
	gapAfter = time.Duration(number("GAP_AFTER", 60) * float64(time.Second))
)

const (
	tolerance = 5 * time.Minute
	// No retry and no replay is older, so an id is not needed longer.
	keep = 7 * 24 * time.Hour
)

type event struct {
	ID       string                     `json:"id"`
	Event    string                     `json:"event"`
	AppID    string                     `json:"app_id"`
	Data     map[string]json.RawMessage `json:"data"`
	Metadata struct {
		WebhookID string `json:"webhook_id"`
		Node      string `json:"node"`
		Sequence  int64  `json:"sequence"`
	} `json:"metadata"`
}

// handle is your work. It may take its time; after a crash it may be asked to do the last event once more.
func handle(e event) {
	subject := "-"
	for _, name := range []string{"socket_id", "channel"} {
		if text, is := e.Data[name]; is {
			_ = json.Unmarshal(text, &subject)
		}
	}
	fmt.Println(e.ID, e.Event, subject)
}

// isGenuine tells whether one of our secrets signed this id, this time and these bytes, less than five minutes from now.
func isGenuine(header http.Header, body []byte) bool {
	stamp := header.Get("webhook-timestamp")
	matches := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, keyOf(secret))
		fmt.Fprintf(mac, "%s.%s.%s", header.Get("webhook-id"), stamp, body)
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for _, given := range strings.Split(header.Get("webhook-signature"), " ") {
			matches = hmac.Equal([]byte(given), expected) || matches
		}
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	return matches && err == nil && time.Since(time.Unix(seconds, 0)).Abs() <= tolerance
}

func keyOf(secret string) []byte {
	if encoded := strings.TrimPrefix(secret, "whsec_"); encoded != secret {
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return key
		}
		log.Fatal("what follows whsec_ in HOOK_SECRETS is not base64")
	}
	return []byte(secret)
}

// isGenuinePusher tells whether the app whose key is given signed these bytes. It signs no time and no id: isGenuine must
// hold too.
func isGenuinePusher(header http.Header, body []byte) bool {
	secret, is := apps[header.Get("x-pusher-key")]
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return is && hmac.Equal([]byte(header.Get("x-pusher-signature")), []byte(hex.EncodeToString(mac.Sum(nil))))
}

// eventsOf returns the events of a body, or an error if it is none of ours.
func eventsOf(body []byte, requestID string, isPusher bool) ([]event, error) {
	var parsed struct {
		event
		Events *[]json.RawMessage `json:"events"`
	}
	if err := json.Unmarshal(body, &parsed); err != nil {
		return nil, err
	}
	if parsed.Events == nil {
		parsed.Events = &[]json.RawMessage{body}
	}
	events := make([]event, len(*parsed.Events))
	for place, text := range *parsed.Events {
		e := &events[place]
		var err error
		if isPusher {
			// Without ids and numbers; the request's id is the same in each attempt.
			e.ID = fmt.Sprintf("%s/%d", requestID, place)
			if err = json.Unmarshal(text, &e.Data); err == nil {
				err = json.Unmarshal(e.Data["name"], &e.Event)
			}
		} else {
			err = json.Unmarshal(text, e)
		}
		if err == nil && (e.ID == "" || e.Event == "" || e.Data == nil) {
			err = errors.New("not an envelope")
		}
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// store is what has been received: a journal on disk, with one line for what came and one for what is done, and in memory what
// that amounts to. Both grow until the next start, which drops what is older than `keep`; with a database at hand, use that.
type store struct {
	sync.Mutex
	journal *os.File
	known   map[string]bool
	waiting []event
	news    chan struct{}
	// Not on disk: after a restart counting begins with the first number that comes.
	counters map[string]*counter
}

// counter is what has come of the numbers of one endpoint and node: all up to the floor is settled.
type counter struct {
	floor int64
	above map[int64]time.Time
}

type line struct {
	At    time.Time `json:"at"`
	Event *event    `json:"event,omitempty"`
	Done  string    `json:"done,omitempty"`
}

// open reads the journal, writes it anew without what is old, and leaves it open at its end.
func open(path string) (*store, error) {
	s := &store{known: map[string]bool{}, news: make(chan struct{}, 1), counters: map[string]*counter{}}
	old, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	var lines []line
	done := map[string]bool{}
	for reader := bufio.NewReader(old); ; {
		text, err := reader.ReadBytes('\n')
		if err == io.EOF {
			break // what stands behind the last newline was never answered for
		}
		var one line
		if err != nil || json.Unmarshal(text, &one) != nil {
			return nil, fmt.Errorf("%s is damaged: %q", path, text)
		}
		lines = append(lines, one)
		if one.Done != "" {
			done[one.Done] = true
		}
	}
	if s.journal, err = os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	for _, one := range lines {
		id := one.Done
		if one.Event != nil {
			id = one.Event.ID
		}
		if done[id] && time.Since(one.At) > keep {
			continue
		}
		if one.Event != nil {
			s.known[id] = true
			if !done[id] {
				s.waiting = append(s.waiting, *one.Event)
			}
		}
		if err = s.write(one); err != nil {
			return nil, err
		}
	}
	if err = s.journal.Sync(); err != nil {
		return nil, err
	}
	if err = os.Rename(path+".new", path); err != nil {
		return nil, err
	}
	folder, err := os.Open(filepath.Dir(path)) // the new name must be as durable as what stands under it
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	return s, folder.Sync()
}

func (s *store) write(lines ...line) error {
	var text []byte
	for _, one := range lines {
		encoded, err := json.Marshal(one)
		if err != nil {
			return err
		}
		text = append(append(text, encoded...), '\n')
	}
	_, err := s.journal.Write(text)
	return err
}

// add keeps all of them, durably, or ends the process. A repeat changes nothing.
func (s *store) add(events []event) {
	s.Lock()
	defer s.Unlock()
	now := time.Now()
	var lines []line
	for place := range events {
		e := &events[place]
		s.count(*e, now)
		if !s.known[e.ID] {
			s.known[e.ID] = true
			lines = append(lines, line{At: now, Event: e})
			s.waiting = append(s.waiting, *e)
		}
	}
	if len(lines) > 0 {
		err := s.write(lines...)
		if err == nil {
			err = s.journal.Sync()
		}
		if err != nil {
			log.Fatal(err) // Half a line is in it, perhaps, or in the cache alone: only a new start knows what there is.
		}
	}
	select {
	case s.news <- struct{}{}:
	default: // it has been told, and has not looked yet
	}
}

// count notes the number of an event, also of a repeat: for another endpoint the same event has another number.
func (s *store) count(e event, now time.Time) {
	if e.Metadata.Sequence == 0 { // outside of the count: a test, or the format pusher
		return
	}
	name := fmt.Sprintf("%s/%s@%s", e.AppID, e.Metadata.WebhookID, e.Metadata.Node)
	numbers, is := s.counters[name]
	if !is {
		s.counters[name] = &counter{floor: e.Metadata.Sequence, above: map[int64]time.Time{}}
		return
	}
	if _, is = numbers.above[e.Metadata.Sequence]; !is && e.Metadata.Sequence > numbers.floor {
		numbers.above[e.Metadata.Sequence] = now
	}
}

// tidy tells of each gap once, when it has lasted.
func (s *store) tidy() {
	s.Lock()
	defer s.Unlock()
	for name, numbers := range s.counters {
		for _, number := range sorted(numbers.above) {
			if number > numbers.floor+1 {
				if time.Since(numbers.above[number]) < gapAfter {
					break
				}
				fmt.Printf("gap %s %d to %d: ask the feed, GET /apps/APP_ID/webhooks/events, what was missed\n",
					name, numbers.floor+1, number-1)
			}
			numbers.floor = number
			delete(numbers.above, number)
		}
	}
}

// work handles what is stored, in the order of arrival, also what a former life has left, and looks for gaps each second.
func (s *store) work() {
	for tick := time.NewTicker(time.Second); ; {
		for {
			s.Lock()
			if len(s.waiting) == 0 {
				s.Unlock()
				break
			}
			next := s.waiting[0]
			s.Unlock()
			handle(next)
			s.Lock()
			s.waiting = s.waiting[1:]
			err := s.write(line{At: time.Now(), Done: next.ID})
			s.Unlock()
			if err != nil {
				log.Fatal(err)
			}
		}
		select {
		case <-s.news:
		case <-tick.C:
			s.tidy()
		}
	}
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isPusher := r.URL.Path == "/pusher"
	if r.Method != http.MethodPost || !(isPusher || r.URL.Path == "/hooks") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil || !isGenuine(r.Header, body) || (isPusher && !isGenuinePusher(r.Header, body)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	events, err := eventsOf(body, r.Header.Get("webhook-id"), isPusher)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.add(events)
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	s, err := open(text("STATE", "inbox.journal"))
	if err != nil {
		log.Fatal(err)
	}
	go s.work()
	listener, err := net.Listen("tcp", "127.0.0.1:"+text("PORT", "8080"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := http.Server{Handler: s, ReadTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute}
	log.Fatal(server.Serve(listener))
}

func text(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func number(name string, otherwise float64) float64 {
	value, err := strconv.ParseFloat(text(name, fmt.Sprint(otherwise)), 64)
	if err != nil {
		log.Fatalf("%s is no number", name)
	}
	return value
}

func pairs(text string) map[string]string {
	found := map[string]string{}
	for _, pair := range strings.Fields(text) {
		key, secret, _ := strings.Cut(pair, ":")
		found[key] = secret
	}
	return found
}

func sorted(numbers map[int64]time.Time) []int64 {
	found := make([]int64, 0, len(numbers))
	for number := range numbers {
		found = append(found, number)
	}
	sort.Slice(found, func(a, b int) bool { return found[a] < found[b] })
	return found
}
