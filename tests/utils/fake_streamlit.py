"""A module with the functions of streamlit 1.67, their parameters and the kinds of what they give, and no browser.

The list is made from the real package: for each function `inspect.signature`, `=` where a parameter has a default.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

SIGNATURES = """
altair_chart element: altair_chart * width= height= use_container_width= theme= key= on_select= selection_mode= alt=
area_chart element: data= * x= y= x_label= y_label= color= stack= width= height= use_container_width= alt=
audio element: data format= start_time= * sample_rate= end_time= loop= autoplay= alt= width=
audio_input value: label * sample_rate= key= help= on_change= args= kwargs= disabled= label_visibility= width=
badge element: label * icon= color= width= help=
balloons element:
bar_chart element: data= * x= y= x_label= y_label= color= horizontal= sort= stack= width= height= use_container_width=
    alt=
button value: label key= help= on_click= args= kwargs= * type= icon= icon_position= disabled= use_container_width=
    width= shortcut= wrap=
cache_data decorator: func= * ttl= max_entries= max_size= show_spinner= show_time= persist= hash_funcs= scope=
    refresh_mode=
cache_resource decorator: func= * ttl= max_entries= show_spinner= show_time= validate= hash_funcs= on_release= scope=
    refresh_mode=
camera_input value: label key= help= on_change= args= kwargs= * disabled= label_visibility= resolution= width=
caption element: body unsafe_allow_html= * help= width= text_alignment= wrap=
chat_input value: placeholder= * key= max_chars= max_upload_size= accept_file= file_type= accept_audio=
    audio_sample_rate= disabled= submit_mode= on_submit= args= kwargs= width= height=
chat_message element: name * avatar= width=
checkbox value: label value= key= help= on_change= args= kwargs= * disabled= label_visibility= width= wrap= bind=
    persist_state=
code element: body language= * line_numbers= wrap_lines= height= width=
color_picker value: label value= key= help= on_change= args= kwargs= * disabled= label_visibility= width= bind=
    persist_state=
columns elements: spec * gap= vertical_alignment= border= width= wrap=
container element: * border= key= width= height= horizontal= wrap= horizontal_alignment= vertical_alignment= gap=
    autoscroll=
data_editor value: data * width= height= use_container_width= hide_index= column_order= column_config= num_rows=
    disabled= key= on_change= args= kwargs= row_height= placeholder= alt=
dataframe element: data= width= height= * use_container_width= hide_index= column_order= column_config= key=
    on_select= selection_mode= selection_default= row_height= placeholder= lazy= alt=
date_input value: label value= min_value= max_value= key= help= on_change= args= kwargs= * format= disabled= required=
    label_visibility= width= bind= persist_state=
datetime_input value: label value= min_value= max_value= * key= help= on_change= args= kwargs= format= step= disabled=
    required= label_visibility= width= bind= persist_state=
dialog decorator: title * width= position= dismissible= icon= on_dismiss=
divider element: * width=
download_button value: label data file_name= mime= key= help= on_click= args= kwargs= * type= icon= icon_position=
    disabled= use_container_width= width= shortcut= wrap=
echarts_chart element: spec * width= height= theme= key= on_select= renderer= alt=
echo context: code_location=
empty element:
error element: body * icon= width= title=
exception element: exception width=
expander element: label expanded= * key= icon= type= width= on_change= args= kwargs= bind=
feedback value: options= * key= default= disabled= on_change= args= kwargs= width= bind= persist_state=
file_uploader value: label type= accept_multiple_files= key= help= on_change= args= kwargs= * max_upload_size=
    disabled= label_visibility= width=
form element: key clear_on_submit= * enter_to_submit= border= width= height=
form_submit_button value: label= help= on_click= args= kwargs= * key= type= icon= icon_position= disabled=
    use_container_width= width= shortcut= wrap=
fragment decorator: func= * run_every= parallel= key=
get_option value: key
graphviz_chart element: figure_or_dot use_container_width= * width= height= alt=
grid element: columns= * min_column_width= wrap= gap= vertical_alignment= border= row_height= width= height= key=
    dense=
header element: body anchor= * help= icon= divider= width= text_alignment= wrap=
help element: obj= * width=
html element: body * width= unsafe_allow_javascript=
iframe element: src * width= height= tab_index= alt=
image element: image caption= width= clamp= channels= output_format= * use_container_width= link= use_column_width=
    alt=
info element: body * icon= width= title=
json element: body * expanded= width=
latex element: body * help= width=
line_chart element: data= * x= y= x_label= y_label= color= width= height= use_container_width= alt=
link_button element: label url * key= on_click= args= kwargs= help= type= icon= icon_position= disabled=
    use_container_width= width= shortcut= wrap=
login nothing: provider=
logo nothing: image * size= link= icon_image=
logout nothing:
map element: data= * latitude= longitude= color= size= zoom= width= height= use_container_width= alt=
markdown element: body unsafe_allow_html= * help= width= text_alignment= anchors= wrap=
menu_button value: label options * key= help= on_click= args= kwargs= type= icon= disabled= width= format_func= wrap=
mermaid_chart element: body * width= alt=
metric element: label value delta= delta_color= * help= icon= label_visibility= border= width= height= chart_data=
    chart_type= delta_arrow= format= delta_description=
multiselect value: label options default= format_func= key= help= on_change= args= kwargs= * max_selections=
    placeholder= disabled= label_visibility= accept_new_options= filter_mode= select_all= width= wrap= bind=
    persist_state=
navigation value: pages * position= expanded=
number_input value: label min_value= max_value= value= step= format= key= help= on_change= args= kwargs= *
    placeholder= disabled= required= label_visibility= icon= width= bind= persist_state=
page_link element: page * label= icon= icon_position= help= disabled= use_container_width= width= query_params=
pagination value: num_pages * default= max_visible_pages= width= key= on_change= args= kwargs= disabled= bind=
    persist_state=
pdf element: data * height= key= alt=
pills value: label options * selection_mode= default= required= format_func= key= help= on_change= args= kwargs=
    disabled= label_visibility= width= wrap= bind= persist_state=
plotly_chart element: figure_or_data use_container_width= * width= height= theme= key= on_select= selection_mode=
    config= alt=
popover element: label * type= help= icon= disabled= use_container_width= width= wrap= key= on_change= args= kwargs=
progress element: value text= width=
pydeck_chart element: pydeck_obj= * width= use_container_width= height= selection_mode= on_select= key= alt=
pyplot element: fig clear_figure= * width= use_container_width= alt= **kwargs
radio value: label options index= format_func= key= help= on_change= args= kwargs= * disabled= horizontal= captions=
    label_visibility= width= bind= persist_state=
rerun stops: scope=
scatter_chart element: data= * x= y= x_label= y_label= color= size= width= height= use_container_width= alt=
segmented_control value: label options * selection_mode= default= required= format_func= key= help= on_change= args=
    kwargs= disabled= label_visibility= width= wrap= bind= persist_state=
select_slider value: label options= value= format_func= key= help= on_change= args= kwargs= * disabled=
    label_visibility= width= bind= persist_state=
selectbox value: label options index= format_func= key= help= on_change= args= kwargs= * placeholder= disabled=
    required= label_visibility= icon= accept_new_options= filter_mode= width= bind= persist_state=
set_option nothing: key value
set_page_config nothing: page_title= page_icon= layout= initial_sidebar_state= menu_items=
skeleton element: height= * width=
slider value: label min_value= max_value= value= step= format= key= help= on_change= args= kwargs= * disabled=
    label_visibility= width= bind= persist_state=
snow element:
space element: size=
spinner context: text= * show_time= _cache= width=
status element: label * expanded= state= type= width=
stop stops:
subheader element: body anchor= * help= icon= divider= width= text_alignment= wrap=
success element: body * icon= width= title=
switch_page stops: page * query_params=
table element: data= * border= width= height= hide_index= hide_header= alt=
tabs elements: tabs * width= height= default= key= on_change= args= kwargs= bind=
text element: body * help= width= text_alignment= wrap=
text_area value: label value= height= max_chars= key= help= on_change= args= kwargs= * placeholder= disabled=
    required= label_visibility= width= bind= persist_state=
text_input value: label value= max_chars= key= type= help= autocomplete= on_change= args= kwargs= * placeholder=
    disabled= required= label_visibility= icon= validate= live= width= bind= persist_state=
time_input value: label value= key= help= on_change= args= kwargs= * disabled= required= label_visibility= step=
    format= width= bind= persist_state=
title element: body anchor= * help= icon= width= text_alignment= wrap=
toast element: body * icon= duration=
toggle value: label value= key= help= on_change= args= kwargs= * disabled= label_visibility= width= wrap= bind=
    persist_state=
vega_lite_chart element: data= spec= * width= height= use_container_width= theme= key= on_select= selection_mode= alt=
video element: data format= start_time= * subtitles= end_time= loop= autoplay= muted= alt= width=
warning element: body * icon= width= title=
write nothing: *args unsafe_allow_html=
write_stream value: stream * cursor=
"""

ANSWERS: dict[str, Any] = {"write_stream": "", "selectbox": "b", "radio": "b", "navigation": None}
"""What widgets give. Those that are not named give their value, or None."""


class Stop(BaseException):
    """What st.stop() and st.rerun() raise."""


def _parsed() -> dict[str, tuple[str, inspect.Signature]]:
    joined: list[str] = []
    for line in SIGNATURES.strip().splitlines():
        if line.startswith("    "):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    out = {}
    for line in joined:
        head, _, words = line.partition(":")
        name, kind = head.split()
        kinds = inspect.Parameter
        parameters: list[inspect.Parameter] = []
        where: Any = kinds.POSITIONAL_OR_KEYWORD
        for word in words.split():
            if word == "*":
                where = kinds.KEYWORD_ONLY
            elif word.startswith("*"):
                parameters.append(
                    kinds(word.strip("*"), kinds.VAR_KEYWORD if word[:2] == "**" else kinds.VAR_POSITIONAL)
                )
                where = kinds.KEYWORD_ONLY
            else:
                default = None if word.endswith("=") else kinds.empty
                parameters.append(kinds(word.rstrip("="), where, default=default))
        out[name] = (kind, inspect.Signature(parameters))
    return out


FUNCTIONS = _parsed()


class Element:
    """A DeltaGenerator."""

    def __init__(self, page: Page, name: str) -> None:
        self._page = page
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name in FUNCTIONS:
            return self._page.function(name, self)
        if name == "update" and self._name == "status":
            return lambda **more: self._page.calls.append(("update", (), more))
        raise AttributeError(name)

    def __enter__(self) -> Element:
        self._page.calls.append((f"enter {self._name}", (), {}))
        return self

    def __exit__(self, *error: object) -> None:
        self._page.calls.append((f"exit {self._name}", (), {}))


class Page(ModuleType):
    """The module. `calls` is what it was asked to show, `answers` what its widgets give."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("streamlit")
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers = {**ANSWERS, **answers}
        self.session_state: dict[str, Any] = {}
        self.sidebar = Element(self, "sidebar")
        for name in FUNCTIONS:
            setattr(self, name, self.function(name))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def function(self, name: str, inside: Element | None = None) -> Any:
        kind, signature = FUNCTIONS[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            self.calls.append((name, args, kwargs))
            if kind == "elements":
                wanted = next(iter(bound.arguments.values()))
                return [
                    Element(self, name) for _ in range(wanted if isinstance(wanted, int) else len(wanted))
                ]
            if kind == "element":
                return Element(self, name)
            if kind == "context":
                return self._context(name)
            if kind == "decorator":
                return lambda function: function
            if kind == "stops":
                raise Stop(name)
            if kind == "nothing":
                return None
            if name == "write_stream":
                return "".join(bound.arguments["stream"])
            answer = self.answers.get(name, bound.arguments.get("value"))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    @contextmanager
    def _context(self, name: str) -> Iterator[None]:
        self.calls.append((f"enter {name}", (), {}))
        try:
            yield
        finally:
            self.calls.append((f"exit {name}", (), {}))
