package say

// orders: how orders between boxes failed. The -refused lines carry the code
// of the refusal.
var orders = map[string]row{
	"order-accept-orphans-refused": {"the data centre refused the acceptance of commits<: {=0}>", "データセンターが承認を拒否しました<：{=0}>"},
	"order-fence-refused":          {"the data centre refused to close<: {=0}>", "データセンターが遮断を拒否しました<：{=0}>"},
	"order-no-address":             {"the peer has no address for orders: add orders to its [[peer]]<: {0}>", "相手に指示用アドレスがありません。[[peer]] に orders を追加してください<：{0}>"},
	"order-promote-refused":        {"the data centre refused write authority<: {=0}>", "データセンターが更新権限を拒否しました<：{=0}>"},
	"order-refused":                {"the peer refused the order<: {0}>", "相手が指示を拒否しました<：{0}>"},
	"order-rejoin-refused":         {"the data centre refused to begin the return<: {=0}>", "データセンターが切戻しの開始を拒否しました<：{=0}>"},
	"order-unanswered":             {"no answer to the order; it is repeated<: {0}>", "指示に応答がありません。再送します<：{0}>"},
	"relay-failed":                 {"the data centre's edge couldn't reach the database host< {0}>", "データセンター側装置からデータベースサーバー< {0} >に届きません"},
}
