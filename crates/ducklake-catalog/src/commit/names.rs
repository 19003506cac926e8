//! Tables that are created, renamed and moved: names are unique among the tables and views of a schema.

use super::plan::{Planner, TagRow};
use super::table::{COMMENT, TableState, check_name};
use crate::layout::stored_below;
use crate::{
    CatalogError, CatalogErrorKind, SchemaId, SchemaRef, SchemaSelector, TableDef, TableId,
};

impl Planner<'_> {
    pub(super) fn create_table(
        &mut self,
        selector: &SchemaSelector,
        def: &TableDef,
    ) -> Result<(), CatalogError> {
        let (schema, is_where_promised) = self.resolve(selector)?;
        let (schema, schema_name, path) = (schema.id, schema.name.clone(), schema.path.clone());
        self.check_table_name(schema, &schema_name, &def.name, None)?;
        let id = TableId::new(self.allocate_catalog_id());
        let schema_of_table = (schema, schema_name.as_str(), path.as_str());
        let state = TableState::created(id, schema_of_table, def, is_where_promised)?;
        self.tables.insert(id, state);
        self.table_names.insert(id, (schema, def.name.clone()));
        self.new_tables.push(id);
        let tags = def.tags.iter().filter(|(key, _)| key != COMMENT);
        self.tags.extend(tags.map(|(key, value)| TagRow {
            object: id.get(),
            key: key.clone(),
            value: Some(value.clone()),
        }));
        Ok(())
    }

    pub(super) fn rename_table(&mut self, id: TableId, name: &str) -> Result<(), CatalogError> {
        let Some(schema) = self.tables.get(&id).map(|state| state.placement.schema) else {
            return Ok(());
        };
        let selector = SchemaSelector::Ref(SchemaRef::Existing(schema));
        let schema_name = self.resolve(&selector)?.0.name.clone();
        self.check_table_name(schema, &schema_name, name, Some(id))?;
        if let Some(state) = self.tables.get_mut(&id) {
            name.clone_into(&mut state.placement.name);
            state.object = format!("table {schema_name}.{name}");
            self.table_names.insert(id, (schema, name.to_owned()));
        }
        Ok(())
    }

    pub(super) fn move_table(
        &mut self,
        id: TableId,
        selector: &SchemaSelector,
    ) -> Result<(), CatalogError> {
        let (schema, _) = self.resolve(selector)?;
        let (schema, schema_name, path) = (schema.id, schema.name.clone(), schema.path.clone());
        let Some(state) = self.tables.get(&id) else {
            return Ok(());
        };
        if state.placement.schema == schema {
            return Ok(());
        }
        let name = state.placement.name.clone();
        self.check_table_name(schema, &schema_name, &name, Some(id))?;
        let data_path = &self.locked.data_path;
        if let Some(state) = self.tables.get_mut(&id) {
            state.placement.schema = schema;
            state.placement.stored_path = stored_below(&state.directory, &path, data_path);
            state.object = format!("table {schema_name}.{name}");
            self.table_names.insert(id, (schema, name));
        }
        Ok(())
    }

    fn check_table_name(
        &self,
        schema: SchemaId,
        schema_name: &str,
        name: &str,
        except: Option<TableId>,
    ) -> Result<(), CatalogError> {
        let object = || format!("table {schema_name}.{name}");
        check_name(name, object)?;
        if self.has_table(schema, name, except) || self.find_view(schema, name).is_some() {
            return Err(CatalogError::new(CatalogErrorKind::NameCollision, object()));
        }
        Ok(())
    }

    pub(super) fn has_table(&self, schema: SchemaId, name: &str, except: Option<TableId>) -> bool {
        self.table_names.iter().any(|(id, (of, table))| {
            *of == schema && Some(*id) != except && table.eq_ignore_ascii_case(name)
        })
    }
}
