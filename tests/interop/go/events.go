package main

import (
	"bytes"
	"encoding/json"
)

// Events as the platform's services declare them: ids and times are int64; knowledge events have no JSON tags.

type searchEvent struct {
	OpType   string            `json:"op_type"`
	Project  *projectDocument  `json:"project_document,omitempty"`
	Resource *resourceDocument `json:"resource_document,omitempty"`
	Meta     *meta             `json:"meta,omitempty"`
	Extra    map[string]any    `json:"extra"`
}

type projectDocument struct {
	ID           int64   `json:"id"`
	Type         int     `json:"type"`
	Status       *int    `json:"status,omitempty"`
	Name         *string `json:"name,omitempty"`
	SpaceID      *int64  `json:"space_id,omitempty"`
	OwnerID      *int64  `json:"owner_id,omitempty"`
	HasPublished *int    `json:"has_published,omitempty"`
	CreateTimeMS *int64  `json:"create_time,omitempty"`
	UpdateTimeMS *int64  `json:"update_time,omitempty"`
	PublishMS    *int64  `json:"publish_time,omitempty"`
	RecentOpenMS *int64  `json:"recently_open_time,omitempty"`
	FavTimeMS    *int64  `json:"fav_time,omitempty"`
	IsFav        *int    `json:"is_fav,omitempty"`
	IsRecentOpen *int    `json:"is_recently_open,omitempty"`
}

type resourceDocument struct {
	ResID         int64   `json:"res_id"`
	ResType       int     `json:"res_type"`
	ResSubType    *int    `json:"res_sub_type,omitempty"`
	Name          *string `json:"name,omitempty"`
	OwnerID       *int64  `json:"owner_id,omitempty"`
	SpaceID       *int64  `json:"space_id,omitempty"`
	AppID         *int64  `json:"app_id,omitempty"`
	BizStatus     *int64  `json:"biz_status,omitempty"`
	PublishStatus *int    `json:"publish_status,omitempty"`
	CreateTimeMS  *int64  `json:"create_time,omitempty"`
	UpdateTimeMS  *int64  `json:"update_time,omitempty"`
	PublishTimeMS *int64  `json:"publish_time,omitempty"`
}

type meta struct {
	SendTimeMS    int64 `json:"send_time_ms"`
	ReceiveTimeMS int64 `json:"receive_time_ms"`
}

type knowledgeEvent struct {
	Type           string
	Documents      []*document
	Document       *document
	Slice          *slice
	SliceIDs       []int64
	KnowledgeID    int64
	DocumentReview *documentReview
}

type document struct {
	ID            int64
	Name          string
	KnowledgeID   int64
	Type          int
	RawContent    string
	URI           string
	URL           string
	Size          int64
	SliceCount    int64
	CharCount     int64
	FileExtension string
	Status        int
	Hits          int64
	TableInfo     struct {
		VirtualTableName  string
		PhysicalTableName string
	}
}

type slice struct {
	ID          int64
	DocumentID  int64
	KnowledgeID int64
	RawContent  string
}

type documentReview struct {
	ReviewID   int64
	DocumentID int64
	URI        string
}

// decode reads a body into its event; a field the struct does not have is an error, so that tests cannot lose one.
func decode(body []byte) (any, error) {
	var event any = &knowledgeEvent{}
	if bytes.Contains(body, []byte(`"op_type"`)) {
		event = &searchEvent{}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return event, decoder.Decode(event)
}
