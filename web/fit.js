// What Fit Solver says while it runs and when it is done, below its fields.
import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { in_turn, translated } from "./language.js"

const LINES = 8
const LOOKS = "margin: 0; padding: 6px; overflow: auto; white-space: pre-wrap; font: 12px/16px monospace; " +
    "color: var(--input-text); background: var(--comfy-input-bg); border-radius: 6px; user-select: text;"
const KEPT = "dyweight.fit"
const shown = new WeakMap()
const last = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}")

/** On its node, unless another workflow is open. */
async function show(lines) {
    if (lines.workflow && lines.workflow !== app.graph.id) return
    const text = shown.get(node_of(lines.node))
    if (text) text.textContent = await translated(lines)
}

/** For when its workflow is opened again, also after a reload of the page. */
function keep(lines) {
    if (!lines.workflow) return
    last[`${lines.workflow} ${lines.node}`] = lines
    sessionStorage.setItem(KEPT, JSON.stringify(last))
}

/** The node of an id as the server has it: those of subgraphs are joined by colons. */
function node_of(id) {
    let [graph, node] = [app.graph, null]
    for (const part of String(id).split(":")) {
        node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part))
        graph = node?.subgraph
    }
    return node
}

app.registerExtension({
    name: "DyWeight.Fit",
    nodeCreated(node) {
        if (node.comfyClass !== "DyWeightFit") return
        const text = document.createElement("pre")
        text.style.cssText = LOOKS
        const height = LINES * 16 + 12
        // a type of its own: for those that it knows, such as text, Nodes 2.0 shows a field instead of the element
        node.addDOMWidget("result", "dyweight_lines", text, { serialize: false, hideOnZoom: false, getMinHeight: () => height, getMaxHeight: () => height })
        shown.set(node, text)
    },
    afterConfigureGraph() {
        for (const detail of Object.values(last)) in_turn(show)({ detail })
    },
    setup() {
        api.addEventListener("dyweight.fit", in_turn(show))
        api.addEventListener("dyweight.fit", in_turn(keep))
    },
})
