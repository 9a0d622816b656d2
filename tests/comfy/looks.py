"""How a graph looks on the page: what is cut off, what covers what, what can be read."""

from tests.comfy.browser import ComfyPage

BOX = """node => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
    return drawn ? [drawn.x, drawn.y, drawn.width, drawn.height].map(n => n / app.canvas.ds.scale)
        : [...node.getBounding()]
}"""
"""A node -> left, top, width, height."""
TEXT = """node => (document.querySelector(`[data-node-id="${node.id}"]`) ?? node.widgets[0].element)
    ?.querySelector("li, p")"""
"""A note -> what its text is in."""


def narrow_titles(page: ComfyPage) -> list[str]:
    """Titles that the classic canvas cuts off."""
    script = """() => {
        const pen = document.createElement("canvas").getContext("2d")
        pen.font = `${LiteGraph.NODE_TEXT_SIZE ?? 14}px Inter, Arial`
        const room = node => node.size[0] - 2 * LiteGraph.NODE_TITLE_HEIGHT
        const cut = app.graph.nodes.filter(node => pen.measureText(node.title).width > room(node))
        return cut.map(node => node.title)
    }"""
    return list(page.page.evaluate(script))


def boxes(page: ComfyPage) -> list[tuple[str, float, float, float, float]]:
    """(title, left, top, width, height) of each node as it is drawn, its title and its pictures included."""
    script = f"() => app.graph.nodes.map(node => [node.title, ...({BOX})(node)])"
    return [tuple(box) for box in page.page.evaluate(script)]


def wait_for_preview(page: ComfyPage, node: str) -> None:
    """Wait until the node of this id shows a picture."""
    script = """id => {
        const drawn = document.querySelector(`[data-node-id="${id}"]`)
        if (!drawn) return app.graph.nodes.find(node => node.id == id).imgs?.length
        return [...drawn.querySelectorAll("img")].some(image => image.complete && image.naturalWidth)
    }"""
    page.page.wait_for_function(script, arg=node)
    page.settle()


def wait_for_notes(page: ComfyPage) -> None:
    """Wait until the text of every note is drawn."""
    script = f"() => app.graph.nodes.filter(node => node.type == 'MarkdownNote').every({TEXT})"
    page.page.wait_for_function(script)
    page.settle()


def contrasts(page: ComfyPage) -> list[float]:
    """The contrast, 1 to 21, of the text of each note to what is behind it."""
    script = """() => {
        const find = FIND
        const numbers = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number)
        const paper = element => {
            for (let one = element; one; one = one.parentElement) {
                const colour = getComputedStyle(one).backgroundColor
                if (numbers(colour)[3] !== 0) return colour
            }
        }
        const light = colour => {
            const [r, g, b] = numbers(colour).map(n => n / 255)
                .map(n => n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4)
            return 0.2126 * r + 0.7152 * g + 0.0722 * b
        }
        const hex = text => `rgb(${text.slice(1).replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3").match(/../g)
            .map(n => parseInt(n, 16)).join()})`
        const notes = app.graph.nodes.filter(node => node.type == "MarkdownNote")
        return notes.map(node => {
            const drawn = document.querySelector(`[data-node-id="${node.id}"]`), text = find(node)
            const behind = drawn ? paper(text) : hex(node.bgcolor)
            const [dark, bright] = [light(getComputedStyle(text).color), light(behind)].sort((a, b) => a - b)
            return (bright + 0.05) / (dark + 0.05)
        })
    }"""
    return list(page.page.evaluate(script.replace("FIND", TEXT)))
