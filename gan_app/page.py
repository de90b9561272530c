"""The page: its tabs, and how it looks."""

import gradio as gr

from gan_app.context import Context
from gan_app.pages import compare, explore, generate, reconstruct, runs, train
from gan_app.pages.choosing import show_to_owners

TABS = {
    "Generate": generate.build,
    "Explore": explore.build,
    "Compare": compare.build,
    "Reconstruct": reconstruct.build,
    "Runs": runs.build,
    "Train": train.build,
}
# Tabs for owners; what they call refuses others whether they see it or not.
OWNERS = ("Reconstruct", "Train")
# Pages that are open at once; Gradio keeps a third of a megabyte for each, and forgets the oldest of more.
OPEN_PAGES = 500
CSS = ".pixels img { image-rendering: pixelated; }"


def build(context: Context, *, with_login: bool) -> gr.Blocks:
    """Build the page.

    Args:
        context: of the application.
        with_login: whether there is a session to end.
    """
    with gr.Blocks(title="twin GAN", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        with gr.Row():
            gr.Markdown("# twin GAN")
            if with_login:
                gr.HTML('<form method="post" action="/logout" style="text-align:right"><button>Log out</button></form>')
        for title, tab in TABS.items():
            with gr.Tab(title, visible=title not in OWNERS) as opened:
                tab(context)
            if title in OWNERS:
                show_to_owners(opened)
    page.state_session_capacity = OPEN_PAGES
    page.queue(max_size=context.limits.waiting, default_concurrency_limit=1)
    return page
