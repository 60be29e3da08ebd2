//! Ready-made fields for a tour in one line. A template is nothing but settings: what a configuration says itself wins.
//!
//! All of them have `user_id` from the same hundred users, so that they can be joined.

use connect_api::Props;

use super::settings::{FIELDS, KEY_FIELD, TEMPLATE, TYPE, list, of_field, setting_of_field};

/// All templates by name.
const TEMPLATES: &[(&str, &[(&str, &str)])] =
    &[("clicks", CLICKS), ("orders", ORDERS), ("pageviews", PAGEVIEWS), ("users", USERS)];

const CLICKS: &[(&str, &str)] = &[
    (FIELDS, "click_id,user_id,element,x,y,campaign,clicked_at"),
    (KEY_FIELD, "user_id"),
    ("field.click_id.type", "uuid"),
    ("field.user_id.type", "string"),
    ("field.user_id.pattern", "user-##"),
    ("field.element.type", "choice"),
    ("field.element.values", "menu,search,product,cart,checkout"),
    ("field.x.type", "int"),
    ("field.x.max", "1919"),
    ("field.y.type", "int"),
    ("field.y.max", "1079"),
    ("field.campaign.type", "word"),
    ("field.campaign.null.percent", "70"),
    ("field.clicked_at.type", "timestamp"),
];

const ORDERS: &[(&str, &str)] = &[
    (FIELDS, "order_id,user_id,item,quantity,price,express,ordered_at"),
    (KEY_FIELD, "order_id"),
    ("field.order_id.type", "counter"),
    ("field.order_id.start", "1"),
    ("field.user_id.type", "string"),
    ("field.user_id.pattern", "user-##"),
    ("field.item.type", "choice"),
    ("field.item.values", "book,lamp,chair,table,clock,mug,pen,bag"),
    ("field.quantity.type", "int"),
    ("field.quantity.min", "1"),
    ("field.quantity.max", "10"),
    ("field.price.type", "double"),
    ("field.price.min", "1"),
    ("field.price.max", "200"),
    ("field.price.decimals", "2"),
    ("field.express.type", "boolean"),
    ("field.ordered_at.type", "timestamp"),
];

const PAGEVIEWS: &[(&str, &str)] = &[
    (FIELDS, "view_id,user_id,page,duration_ms,viewed_at"),
    (KEY_FIELD, "user_id"),
    ("field.view_id.type", "counter"),
    ("field.user_id.type", "string"),
    ("field.user_id.pattern", "user-##"),
    ("field.page.type", "string"),
    ("field.page.pattern", "/page/##"),
    ("field.duration_ms.type", "long"),
    ("field.duration_ms.min", "100"),
    ("field.duration_ms.max", "60000"),
    ("field.viewed_at.type", "timestamp"),
];

const USERS: &[(&str, &str)] = &[
    (FIELDS, "user_id,name,country,age,premium,registered"),
    (KEY_FIELD, "user_id"),
    ("field.user_id.type", "string"),
    ("field.user_id.pattern", "user-##"),
    ("field.name.type", "word"),
    ("field.name.length", "2"),
    ("field.country.type", "choice"),
    ("field.country.values", "AR,BR,CN,DE,EG,ES,FR,IN,JP,KE,MX,US"),
    ("field.age.type", "int"),
    ("field.age.min", "18"),
    ("field.age.max", "90"),
    ("field.premium.type", "boolean"),
    ("field.registered.type", "date"),
    ("field.registered.min", "2015-01-01"),
    ("field.registered.max", "2025-12-31"),
];

/// The names of all templates.
pub fn names() -> Vec<&'static str> {
    TEMPLATES.iter().map(|(name, _)| *name).collect()
}

/// The configuration with what its template adds. A field that `fields` leaves out adds nothing, and one whose type the
/// configuration says itself has no other settings either.
pub fn completed(props: &Props) -> Props {
    let wanted = props.get(TEMPLATE).map(|name| name.trim());
    let Some((_, settings)) = TEMPLATES.iter().find(|(name, _)| Some(*name) == wanted) else { return props.clone() };
    let own = props.get(FIELDS).map(|fields| list(fields));
    let is_left_out = |field: &str| own.as_ref().is_some_and(|own| !own.iter().any(|name| name == field));
    let mut completed = props.clone();
    for (name, text) in *settings {
        let unwanted = match setting_of_field(name) {
            Some((field, _)) => is_left_out(field) || props.contains_key(&of_field(field, TYPE)),
            None => *name == KEY_FIELD && is_left_out(text),
        };
        if !unwanted {
            completed.entry((*name).to_owned()).or_insert_with(|| (*text).to_owned());
        }
    }
    completed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(settings: &[(&str, &str)]) -> Props {
        settings.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_the_configuration_says_wins() {
        let own = [(TEMPLATE, " users "), ("field.age.max", "20"), ("field.registered.type", "timestamp")];
        let completed = completed(&props(&own));
        assert_eq!((&*completed["field.age.min"], &*completed["field.age.max"]), ("18", "20"));
        assert_eq!((&*completed[KEY_FIELD], &*completed["field.registered.type"]), ("user_id", "timestamp"));
        assert!(!completed.contains_key("field.registered.min"), "it is a day, which need not fit");
    }

    #[test]
    fn fields_that_are_left_out_leave_nothing() {
        let own = props(&[(TEMPLATE, "orders"), (FIELDS, "item, extra"), ("field.extra.type", "uuid")]);
        let mut expected = own.clone();
        expected.extend(props(&ORDERS.iter().filter(|(name, _)| name.contains(".item.")).copied().collect::<Vec<_>>()));
        assert_eq!(completed(&own), expected);
        let unknown = props(&[(TEMPLATE, "order")]);
        assert_eq!(completed(&unknown), unknown);
    }
}
