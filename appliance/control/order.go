package control

import "komainu/failover/machine"

// OrdersPath takes an Order by POST and answers when it is done or refused.
const OrdersPath = "/v1/orders"

// StatusPath answers a GET with Status.
const StatusPath = "/v1/status"

// Order is the body of a POST to OrdersPath. By is what the person says of
// itself; who really asked is in Request.Peer.
type Order = machine.Order

// Reply is the answer: a refusal changed nothing. An *Error instead means that
// the order didn't reach the agent's core.
type Reply = machine.Reply
