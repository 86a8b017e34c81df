package say

// files: what is wrong with files and disks.
var files = map[string]row{
	"disk-full":   {"no space left<: {0}>: free some", "空き容量がありません。不要なファイルを削除してください<：{0}>"},
	"file-unread": {"{0} can't be read: {1}", "{0} を読み込めません：{1}"},
}
