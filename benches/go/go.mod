module nats-eventbus/benches

go 1.21

require (
	github.com/nats-io/nats.go v1.34.1
	golang.org/x/sys v0.16.0
)

require (
	github.com/klauspost/compress v1.17.2 // indirect
	github.com/nats-io/nkeys v0.4.7 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/crypto v0.18.0 // indirect
	golang.org/x/text v0.14.0 // indirect
)
