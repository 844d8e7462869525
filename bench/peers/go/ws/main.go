// go: WebSocket echo with gorilla/websocket.  go-ws ADDR
package main

import (
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, m, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, m) != nil {
				return
			}
		}
	}))
}
